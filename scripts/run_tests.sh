#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs tests and adds up their closing lines "N passed, N failed, N skipped"; the total is the last line.
# A program that ends without its closing line, with another exit code than its line says, or not within
# its time counts as one failure.
#     scripts/run_tests.sh all OBJ             the rules, then every test program, shell and Python test
#     scripts/run_tests.sh sanitized OBJ [NAME...]
#                                              test programs, and the tests that run OBJ/einthoven from outside
#     scripts/run_tests.sh emu OBJ             tests/emu/test_*, the CUDA backend emulated, in every mode (`all` runs the
#                                              fast ones, `soak` the others)
#     scripts/run_tests.sh soak OBJ            tests/soak_*
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
what=$1 obj=$2
shift 2
limit=${TEST_SECONDS:-600}
[ "$what" = soak ] && limit=${TEST_SECONDS:-3600}
passed=0 failed=0 skipped=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
export EINTHOVEN_TESTS="$obj/tests"
export ASAN_OPTIONS="halt_on_error=1:abort_on_error=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export TSAN_OPTIONS="halt_on_error=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}"

fail() { # NAME REASON
    echo "FAILED  $1 ($2)"
    failed=$((failed + 1))
}

skip() { # NAME REASON
    echo "skipped $1 ($2)"
    skipped=$((skipped + 1))
}

# One of our rules: exit 0 holds, 77 could not be checked.
rule() { # NAME COMMAND...
    local name=$1 reason code
    shift
    "$@" >"$log" 2>&1
    code=$?
    case $code in
    0) echo "ok      $name"; passed=$((passed + 1)) ;;
    77) reason=$(tail -n 1 "$log"); skip "$name" "$reason" ;;
    *) cat "$log"; fail "$name" "exit $code" ;;
    esac
}

# A test with a closing line of its own.
run() { # NAME COMMAND...
    local name=$1 code line
    shift
    echo "== $name"
    timeout -k 10 "$limit" "$@" </dev/null 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
    if [ "$code" = 124 ] || [ "$code" = 137 ]; then
        fail "$name" "killed, or not done after $limit s"
        return
    fi
    if [ -z "$line" ]; then
        fail "$name" "exit $code without a closing line"
        return
    fi
    local p f s
    read -r p f s < <(tr -dc '0-9 \n' <<<"$line")
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ "$f" = 0 ] && [ "$code" != 0 ]; then
        fail "$name" "exit $code, though no case failed"
    fi
}

# The thread sanitizer wants the old layout of addresses where the kernel's is too random for it.
fixed_layout=()
if setarch "$(uname -m)" -R true 2>/dev/null; then fixed_layout=(setarch "$(uname -m)" -R); fi
layout=()
# grep -q would end nm early, which pipefail takes for a failure.
if [ "$(nm "$obj/einthoven" 2>/dev/null | grep -c ' __tsan_init$')" -gt 0 ]; then layout=("${fixed_layout[@]}"); fi

# The interpreter that has what the test imports, the one with more of the optional modules first.
run_python() { # FILE
    local python best='' most=-1 lines missing=''
    for python in /usr/bin/python3 build/venv/bin/python; do
        [ -x "$python" ] || continue
        mapfile -t lines < <("$python" scripts/python_needs.py "$1" 2>&1)
        if [ -n "${lines[0]}" ]; then
            missing=${missing:-${lines[0]}}
        elif [ "${lines[1]:-0}" -gt "$most" ]; then
            best=$python most=${lines[1]:-0}
        fi
    done
    if [ -z "$best" ]; then
        echo "== $1"
        if [ -n "$missing" ]; then skip "$1" "Python modules missing: $missing"; else skip "$1" "no python3"; fi
        return
    fi
    run "$1" "${layout[@]}" "$best" "$1"
}

c_tests() { # PREFIX [NAME...]
    local source name prefix=$1 folder=$obj/tests
    shift
    if [ "$prefix" = soak_fuzz ]; then folder=$(dirname "$obj")/fuzz; fi # built with the sanitizers
    for source in tests/"$prefix"_*.c; do
        name=$(basename "$source" .c)
        if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
        if [ -x "$folder/$name" ]; then
            run "$name" "${layout[@]}" "$folder/$name"
        else
            fail "$name" "not built"
        fi
    done
}

# In modes of the emulation, each with an order of the threads (kernels/cuda/cuda.mk builds them, tests/emu/emu.h explains).
emu_fast=(plain:forward plain:random)
emu_slow=(plain:reverse count:random asan:forward tsan:random)
emu_tests() { # MODE:ORDER...
    local source name mode order folder
    if ! command -v "${CXX:-g++}" >/dev/null; then
        skip "the emulated CUDA backend" "no C++ compiler (${CXX:-g++})"
        return
    fi
    for source in tests/emu/test_*.cc; do
        name=$(basename "$source" .cc)
        for mode in "$@"; do
            order=${mode#*:} mode=${mode%:*}
            folder=$(dirname "$obj")/emu
            [ "$mode" = plain ] || folder=$folder-$mode
            if [ ! -x "$folder/tests/$name" ]; then
                fail "$name ($mode)" "not built"
            elif [ "$mode" = tsan ]; then
                run "$name ($mode, $order)" "${fixed_layout[@]}" env EMU_ORDER="$order" "$folder/tests/$name"
            else
                run "$name ($mode, $order)" env EMU_ORDER="$order" "$folder/tests/$name"
            fi
        done
    done
}

scripts_of() { # PREFIX
    local file
    for file in tests/"$1"_*.sh; do
        if [ -e "$file" ]; then run "$file" bash "$file"; fi
    done
    for file in tests/"$1"_*.py; do
        if [ -e "$file" ]; then run_python "$file"; fi
    done
}

# Runs a part of the tests beside the others: on two cores most of the time, as most of them need one. `join` shows what they
# said and counts them in.
beside() { # FUNCTION ARGUMENT...
    lane=$(mktemp -d) || exit 1
    trap 'kill "$lane_pid" 2>/dev/null; rm -rf "$log" "$lane"' EXIT
    # shellcheck disable=SC2030 # the counts come back by a file
    (
        log=$lane/log passed=0 failed=0 skipped=0
        trap - EXIT
        "$@"
        echo "$passed $failed $skipped" >"$lane/counts"
    ) >"$lane/said" 2>&1 &
    lane_pid=$!
}

join() {
    local p=0 f=0 s=0
    wait "$lane_pid"
    cat "$lane/said"
    # shellcheck disable=SC2031
    if read -r p f s <"$lane/counts"; then
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    else
        fail "the tests beside" "they did not come to their end"
    fi
}

# What runs the program from outside, on the one built with these objects.
outside_tests() {
    local file
    EINTHOVEN_BINARY=$(realpath "$obj/einthoven")
    export EINTHOVEN_BINARY
    for file in tests/test_*.sh; do
        if grep -q 'support/shell.inc' "$file"; then run "$file" "${layout[@]}" bash "$file"; fi
    done
    for file in tests/test_*.py; do
        if grep -q EINTHOVEN_BINARY "$file"; then run_python "$file"; fi
    done
}

case $what in
all)
    beside scripts_of test
    rule "include rule" scripts/check_includes.sh
    rule "headers compile alone" scripts/check_headers.sh
    rule "format" scripts/format.sh --check
    c_tests test
    emu_tests "${emu_fast[@]}"
    join
    ;;
sanitized)
    c_tests test "$@"
    outside_tests
    ;;
emu) emu_tests "${emu_fast[@]}" "${emu_slow[@]}" ;;
soak)
    c_tests soak_fuzz
    if command -v "${CXX:-g++}" >/dev/null; then c_tests soak_cuda; fi
    emu_tests "${emu_slow[@]}"
    scripts_of soak
    ;;
*)
    echo "run_tests: $what is not one of all, sanitized, emu, soak" >&2
    exit 2
    ;;
esac
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
