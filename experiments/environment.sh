# Make the project's own environment in .venv, once for each state of the requirements, and enter it.
# Sourced by the scripts; expects the variable `root`. PYTHON chooses the interpreter (3.11 or newer).

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "realm_jax needs Python 3.11 or newer, but $python is $("$python" --version 2>&1). Set PYTHON to another interpreter." >&2
  exit 1
}

enter_environment() { # enter_environment REQUIREMENTS_FILE
  local wanted stamp="$root/.venv/requirements.sum"
  wanted=$(cat "$root"/requirements*.txt "$root/pyproject.toml" | cksum)" $1"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing $1 into .venv (a few minutes the first time)"
    "$python" -m venv "$root/.venv"
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/$1"
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e "$root"
    echo "$wanted" >"$stamp"
  fi
  PATH="$root/.venv/bin:$PATH"
  export PATH
}

# On a CPU the step's large temporaries are the same every time: keep glibc from giving them back to the
# kernel after each step and taking a page fault for every page again (a fifth of the step time).
export MALLOC_MMAP_MAX_=${MALLOC_MMAP_MAX_:-0} MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-1}
export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-8589934592} MALLOC_TOP_PAD_=${MALLOC_TOP_PAD_:-536870912}
