# shellcheck shell=sh
# Sourced by bin/* when the environment may have to be made: takes the checkout, and a group of packages if any.
# In a subshell: a variable that the user has exported would be changed in the command's environment, too.

make_environment() (
    base=
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            base=$name
            break
        fi
    done
    if [ -z "$base" ]; then
        echo "claude-local: no Python 3.11 or newer on PATH. Install one (brew install python, apt install python3)." >&2
        exit 69
    fi
    "$base" -I "$1/shim/setup/venv.py" ${2+"$2"}
)
