/* SPDX-License-Identifier: MIT
 * Everything is asked of the system as it is; nothing is measured and nothing changed. */
#include "train/run/doctor.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/pool.h"
#include "data/h5.h"
#include "kernels/cpu/cpu.h"
#include "kernels/find.h"
#include "train/run/sheet.h"
#include "train/run/slurm.h"
#include "train/run/version.h"

#define GB 1e9

static void put_usable(struct sheet *s, const char *problem) {
    const bool usable = problem[0] == 0;
    if (s->json) {
        json_put_key(&s->w, "usable");
        json_put_bool(&s->w, usable);
    } else {
        sheet_text(s, "usable", usable ? "yes" : "no");
    }
    if (s->json || !usable) sheet_text(s, "problem", usable ? NULL : problem);
}

/* ------------------------------------------------------------------ host */

/* What follows "key :" in a file of /proc, without its newline; NULL when there is no such line. */
static const char *proc_value(const char *path, const char *key, char *line, size_t n) {
    FILE *f = fopen(path, "r");
    const char *value = NULL;
    while (f != NULL && value == NULL && fgets(line, (int)n, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0 && strchr(line, ':') != NULL)
            value = strchr(line, ':') + 1;
    if (f != NULL) fclose(f);
    if (value == NULL) return NULL;
    line[strcspn(line, "\n")] = 0;
    return value + strspn(value, " \t");
}

/* The allowed cores as the kernel lists them: "0-3,8". */
static const char *allowed_cores(char *line, size_t n) {
    return proc_value("/proc/self/status", "Cpus_allowed_list", line, n);
}

static void put_host(struct sheet *s) {
    struct utsname system;
    const struct level *level = NULL;
    char line[512];
    sheet_section(s, "cpu");
    sheet_text(s, "processor", proc_value("/proc/cpuinfo", "model name", line, sizeof(line)));
    const bool found = cpu_dispatch(&level) == ECG_OK;
    sheet_text(s, "simd_level", found ? level->name : NULL);
    sheet_integer(s, "cores", sysconf(_SC_NPROCESSORS_ONLN));
    sheet_text(s, "allowed_cores", allowed_cores(line, sizeof(line)));
    sheet_integer(s, "threads_by_default", pool_default_threads());
    sheet_number(s, "memory_gb",
                 (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / GB);
    if (uname(&system) == 0) sheet_text(s, "kernel", system.release);
    put_usable(s, found ? "" : ecg_message());
    sheet_end_section(s);
}

/* ------------------------------------------------------------------ CUDA */

static void put_device(struct sheet *s, int i, const struct cuda_device *d) {
    char key[16], capability[16];
    snprintf(key, sizeof(key), "gpu%d", i);
    snprintf(capability, sizeof(capability), "%d.%d", d->major, d->minor);
    sheet_section(s, key);
    sheet_text(s, "name", d->name);
    sheet_text(s, "compute_capability", capability);
    sheet_integer(s, "multiprocessors", d->processors);
    sheet_number(s, "memory_gb", (double)d->memory / GB);
    sheet_number(s, "free_gb", (double)d->free / GB);
    put_usable(s, d->problem);
    sheet_end_section(s);
}

static const char *or_null(const char *text) {
    return text[0] != 0 ? text : NULL;
}

static void put_libraries(struct sheet *s, const struct cuda_report *r) {
    for (int i = 0; i < r->n_libraries; i++) {
        const struct cuda_library *l = &r->library[i];
        sheet_section(s, l->name);
        sheet_text(s, "version", or_null(l->version));
        put_usable(s, l->problem);
        sheet_end_section(s);
    }
}

/* The driver of the kernel, where there is one: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65 ...". */
static const char *kernel_driver(char *line, size_t n) {
    return proc_value("/proc/driver/nvidia/version", "NVRM version", line, n);
}

static enum ecg_status put_cuda(struct sheet *s) {
    struct cuda_report *r = NULL;
    const char *path = NULL;
    char line[512];
    TRY(MEM_NEW(&r, 1));
    sheet_section(s, "cuda");
    sheet_text(s, "kernel_driver", kernel_driver(line, sizeof(line)));
    if (ops_cuda_report(r, &path) != ECG_OK) {
        sheet_text(s, "plugin", NULL);
        put_usable(s, ecg_message());
    } else {
        sheet_text(s, "plugin", path);
        sheet_text(s, "runtime", or_null(r->runtime));
        sheet_text(s, "driver_supports", or_null(r->driver));
        sheet_integer(s, "gpus", r->n_devices);
        for (int i = 0; i < r->n_devices; i++) put_device(s, i, &r->device[i]);
        put_libraries(s, r);
        put_usable(s, r->problem);
    }
    sheet_end_section(s);
    free(r);
    return ECG_OK;
}

/* ------------------------------------------------------------------ MPI and Slurm */

/* The first folder of PATH that holds a program; NULL when none does. */
static const char *find_program(const char *name, char *out, size_t n) {
    const char *path = getenv("PATH");
    for (const char *at = path; at != NULL && *at != 0;) {
        const size_t length = strcspn(at, ":");
        const int used = snprintf(out, n, "%.*s/%s", (int)length, at, name);
        if (used > 0 && (size_t)used < n && access(out, X_OK) == 0) return out;
        at += length + (at[length] == ':');
    }
    return NULL;
}

static bool loads(const char *const *files) {
    for (; *files != NULL; files++) {
        void *handle = dlopen(*files, RTLD_LAZY | RTLD_LOCAL);
        if (handle == NULL) continue;
        dlclose(handle);
        return true;
    }
    return false;
}

static void put_mpi(struct sheet *s) {
    static const char *const files[] = {"libmpi.so.40", "libmpi.so.12", "libmpi.so", NULL};
    char path[512];
    const char *launcher = find_program("mpirun", path, sizeof(path));
    const bool library = loads(files);
    sheet_section(s, "mpi");
    sheet_text(s, "mpirun", launcher);
    sheet_text(s, "library", library ? "libmpi" : NULL);
    put_usable(s, library && launcher != NULL
                      ? ""
                      : "no MPI: install Open MPI or load its module for runs on many nodes");
    sheet_end_section(s);
}

/* What of Slurm does not work; "" when all does. `controller`: what scontrol ping says. */
static const char *slurm_problem(const char *srun, const char *scontrol, const char *controller) {
    if (srun == NULL) return "srun is not in PATH: this is no node of a Slurm cluster";
    if (scontrol == NULL) return "scontrol is not in PATH: --requeue auto needs it";
    if (strstr(controller, " UP") == NULL)
        return "slurmctld does not answer (scontrol ping): jobs can neither be submitted nor requeued from here";
    return "";
}

static void put_slurm(struct sheet *s) {
    char *const ping[] = {"scontrol", "ping", NULL}, *const ask[] = {"scontrol", "--version", NULL};
    char path[2][512], controller[256] = "", version[64] = "", job[128];
    const char *srun = find_program("srun", path[0], sizeof(path[0]));
    const char *scontrol = find_program("scontrol", path[1], sizeof(path[1]));
    if (scontrol != NULL) {
        slurm_ask(ask, version, sizeof(version));
        slurm_ask(ping, controller, sizeof(controller));
    }
    sheet_section(s, "slurm");
    sheet_text(s, "srun", srun);
    sheet_text(s, "scontrol", scontrol);
    sheet_text(s, "version", version[0] != 0 ? version : NULL);
    sheet_text(s, "controller", controller[0] != 0 ? controller : NULL);
    sheet_text(s, "job", slurm_job(job, sizeof(job)) ? job : NULL);
    sheet_text(s, "tasks", getenv("SLURM_NTASKS"));
    sheet_text(s, "cpus_per_task", getenv("SLURM_CPUS_PER_TASK"));
    sheet_text(s, "end_time", getenv("SLURM_JOB_END_TIME"));
    put_usable(s, slurm_problem(srun, scontrol, controller));
    sheet_end_section(s);
}

/* ------------------------------------------------------------------ files */

/* Numbers of statfs(2) and of the file systems' own headers. */
static const struct {
    uint32_t magic;
    const char *name, *problem;
} file_systems[] = {
    {0xEF53, "ext4", ""},
    {0x58465342, "xfs", ""},
    {0x9123683E, "btrfs", ""},
    {0x2FC12FC1, "zfs", ""},
    {0x01021994, "tmpfs", "it lies in memory and is gone after a restart"},
    {0x794c7630, "overlayfs", ""},
    {0x6969, "nfs", ""},
    {0xFF534D42, "cifs", ""},
    {0xFE534D42, "smb2", ""},
    {0x0BD00BD0, "lustre", ""},
    {0x47504653, "gpfs", ""},
    {0x19830326, "beegfs", ""},
    {0x00C36400, "ceph", ""},
    {0x65735546, "fuse", ""},
    {0x01021997, "9p", ""},
};

static void put_files(struct sheet *s) {
    struct statfs f;
    char folder[4096], unknown[32];
    sheet_section(s, "folder");
    const bool here = getcwd(folder, sizeof(folder)) != NULL;
    sheet_text(s, "path", here ? folder : NULL);
    if (!here || statfs(folder, &f) != 0) {
        put_usable(s, strerror(errno));
        sheet_end_section(s);
        return;
    }
    snprintf(unknown, sizeof(unknown), "0x%08x", (unsigned)f.f_type);
    const char *name = unknown, *problem = "";
    for (size_t i = 0; i < sizeof(file_systems) / sizeof(*file_systems); i++) {
        if (file_systems[i].magic != (uint32_t)f.f_type) continue;
        name = file_systems[i].name;
        problem = file_systems[i].problem;
    }
    sheet_text(s, "file_system", name);
    sheet_number(s, "free_gb", (double)f.f_bavail * (double)f.f_bsize / GB);
    if (problem[0] != 0) sheet_text(s, "note", problem);
    put_usable(s, access(folder, W_OK) == 0 ? "" : "this folder can't be written");
    sheet_end_section(s);
}

static void put_libraries_of_data(struct sheet *s) {
    char version[32];
    h5_version(version, sizeof(version));
    sheet_section(s, "hdf5");
    sheet_text(s, "version", version);
    put_usable(s, "");
    sheet_end_section(s);
}

enum ecg_status doctor_run(bool json) {
    struct sheet s;
    sheet_begin(&s, json);
    sheet_text(&s, "version", EINTHOVEN_VERSION);
    sheet_text(&s, "git", version_git());
    put_host(&s);
    enum ecg_status status = put_cuda(&s);
    put_mpi(&s);
    put_slurm(&s);
    put_libraries_of_data(&s);
    put_files(&s);
    const enum ecg_status finished = sheet_finish(&s);
    return status != ECG_OK ? status : finished;
}
