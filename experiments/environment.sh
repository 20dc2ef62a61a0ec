# shellcheck shell=bash
# Make the project's own environment in .venv, once for each state of the requirements, and enter it.
# Sourced by the scripts; expects the variable `root`. PYTHON chooses the interpreter; ACCELERATOR=gpu or tpu adds
# what JAX needs there.

enter_environment() { # enter_environment REQUIREMENTS_FILE
  : "${root:?must name the folder of the repository}"
  local python wanted file files=("$1" ${ACCELERATOR:+"requirements-$ACCELERATOR.txt"})
  local stamp="$root/.venv/$1${ACCELERATOR:+.$ACCELERATOR}.sum" venv="$root/.venv/bin/python"
  for file in "${files[@]}"; do
    [ -f "$root/$file" ] && continue
    echo "ACCELERATOR is gpu, tpu or empty, but got '$ACCELERATOR'. There is no $file." >&2
    return 1
  done
  wanted=$(cat "$root"/requirements*.txt "$root/pyproject.toml" | cksum)
  if ! fits "$venv" || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing ${files[*]} into .venv (a few minutes the first time)"
    if ! fits "$venv"; then
      python=$(find_python) || return
      "$python" -m venv --clear "$root/.venv"
    fi
    "$venv" -m pip install --quiet --disable-pip-version-check "${files[@]/#/-r$root/}"
    "$venv" -m pip install --quiet --disable-pip-version-check --no-deps -e "$root"
    echo "$wanted" >"$stamp"
  fi
  PATH="$root/.venv/bin:$PATH"
  export PATH
}

find_python() { # print the interpreter to build with: $PYTHON, or the first one that fits
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    if fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "realm_jax needs Python 3.11, 3.12 or 3.13; ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>/dev/null || echo missing)." \
    "Set PYTHON to another interpreter." >&2
  return 1
}

fits() { # fits INTERPRETER
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}
