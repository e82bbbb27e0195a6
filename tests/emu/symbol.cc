/* SPDX-License-Identifier: MIT
 * A kernel's name with its template arguments, from the symbol table of the file that it was loaded from: a launch through a table of
 * functions does not say which instance it is. */
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <string>

#include "internal.h"

struct image { /* a file, mapped */
    const char *data;
    size_t bytes;
};

static bool open_image(struct image *image, const char *path) {
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    void *p = MAP_FAILED;
    if (fstat(fd, &st) == 0 && (size_t)st.st_size > sizeof(Elf64_Ehdr))
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return false;
    *image = {(const char *)p, (size_t)st.st_size};
    return memcmp(p, ELFMAG, SELFMAG) == 0;
}

/* The name of the function at `value` (an address as the file has it), or NULL. */
static const char *symbol_at(const struct image *image, uintptr_t value) {
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)image->data;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(image->data + h->e_shoff);
    for (int i = 0; i < h->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB) continue;
        const Elf64_Sym *symbols = (const Elf64_Sym *)(image->data + sections[i].sh_offset);
        const char *names = image->data + sections[sections[i].sh_link].sh_offset;
        for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; k++)
            if (symbols[k].st_value == value && ELF64_ST_TYPE(symbols[k].st_info) == STT_FUNC)
                return names + symbols[k].st_name;
    }
    return NULL;
}

/* "void name<T>(int)" without the return type and the parameters. */
static std::string short_name(const char *mangled) {
    int status;
    char *text = abi::__cxa_demangle(mangled, NULL, NULL, &status);
    std::string name = text == NULL ? mangled : text;
    free(text);
    if (name.compare(0, 5, "void ") == 0) name.erase(0, 5);
    int depth = 0;
    for (size_t i = name.size(); i-- > 0;) {
        depth += name[i] == ')' ? 1 : name[i] == '(' ? -1 : 0;
        if (depth == 0) {
            if (name[i] == '(') name.erase(i);
            break;
        }
    }
    return name;
}

const char *emu_symbol(const void *function, const char *otherwise) {
    static std::map<const void *, std::string> known;
    const auto found = known.find(function);
    if (found != known.end()) return found->second.c_str();
    std::string name = otherwise;
    if (name.size() > 2 && name.front() == '(' && name.back() == ')')
        name = name.substr(1, name.size() - 2);
    Dl_info info;
    struct image image = {NULL, 0};
    if (dladdr(function, &info) != 0 &&
        (open_image(&image, info.dli_fname) || open_image(&image, "/proc/self/exe"))) {
        const bool fixed = ((const Elf64_Ehdr *)image.data)->e_type == ET_EXEC;
        const char *symbol =
            symbol_at(&image, (uintptr_t)function - (fixed ? 0 : (uintptr_t)info.dli_fbase));
        if (symbol != NULL) name = short_name(symbol);
        munmap((void *)image.data, image.bytes);
    }
    return known.emplace(function, name).first->second.c_str();
}
