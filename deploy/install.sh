#!/bin/sh
# Installs monitoring_v2 as a service on Debian or Ubuntu, or takes it away again. Safe to repeat.
set -eu

usage() {
    cat <<'TEXT'
usage: install.sh [--dry-run] [--root DIR] [--wheel FILE | --venv DIR]
       install.sh --uninstall [--purge] [--dry-run] [--root DIR]

  --dry-run    say what would be done, and do nothing
  --root DIR   work below DIR instead of /: needs no root rights and asks no systemd
  --wheel FILE install this wheel instead of the checkout that this script lies in
  --venv DIR   use this Python environment, which has the package already, and download nothing
  --uninstall  take away units, programs and environment; keep settings, accounts and data
  --purge      with --uninstall: settings, accounts, sound and spool too; backups stay
TEXT
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root="" wheel="" venv="" is_dry="" is_removal="" is_purge=""
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) is_dry=1 ;;
    --uninstall) is_removal=1 ;;
    --purge) is_purge=1 ;;
    --root | --wheel | --venv)
        [ $# -ge 2 ] || { echo "install.sh: $1 wants a value" >&2; exit 2; }
        case $1 in
        --root) root=${2%/} ;;
        --wheel) wheel=$2 ;;
        --venv) venv=$2 ;;
        esac
        shift
        ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

etc=$root/etc/monitoring
opt=$root/opt/monitoring
made=$etc/installed # what was not there before: all that an uninstallation may touch

fail() { echo "install.sh: $*" >&2; exit 1; }
do_it() { # WHAT COMMAND...: say what, and unless it is a rehearsal, do it
    echo "${is_dry:+would }$1"
    shift
    [ -n "$is_dry" ] || "$@"
}
has_made() { [ -f "$made" ] && grep -qxF "$*" "$made"; }
note() { [ -n "$is_dry" ] || has_made "$*" || echo "$*" >>"$made"; }
systemd_runs() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# Accounts below --root are in its own files, and so are their numbers.
account_tool() { tool=$1; shift; if [ -n "$root" ]; then "$tool" --prefix "$root" "$@"; else "$tool" "$@"; fi; }
entry_of() { # DATABASE NAME
    if [ -n "$root" ]; then grep "^$2:" "$root/etc/$1" 2>/dev/null; else getent "$1" "$2"; fi
}
number_of() { entry_of "$1" "$2" | cut -d: -f3; }
own() { # PATH USER GROUP: only root can give files away
    [ "$(id -u)" -ne 0 ] || chown -h "$(number_of passwd "$2"):$(number_of group "$3")" "$1"
}

add_group() {
    ! entry_of group "$1" >/dev/null || return 0
    do_it "make group $1" account_tool groupadd --system "$1"
    note "group $1"
}
add_user() {
    if ! entry_of passwd monitoring >/dev/null; then
        do_it "make user monitoring" account_tool useradd --system --gid monitoring \
            --no-create-home --home-dir /var/monitoring --shell /usr/sbin/nologin monitoring
        note "user monitoring"
    fi
    ! entry_of group monitoring-audio | cut -d: -f4 | tr , '\n' | grep -qx monitoring || return 0
    do_it "let user monitoring hear sound: group monitoring-audio" \
        account_tool usermod --append --groups monitoring-audio monitoring
}

folder() { # PATH MODE USER GROUP; one that is there already keeps its mode
    [ ! -d "$root$1" ] || return 0
    do_it "make folder $1 ($2 $3:$4)" mkdir -p "$root$1"
    [ -z "$is_dry" ] || return 0
    own "$root$1" "$3" "$4"
    chmod "$2" "$root$1"
    note "folder $1"
}
file() { # SOURCE PATH MODE
    if [ -f "$root$2" ] && cmp -s "$1" "$root$2"; then return 0; fi
    [ -f "$root$2" ] || is_new=1
    do_it "write $2" install -D -m "$3" "$1" "$root$2"
    [ -z "${is_new:-}" ] || note "file $2"
    is_new=""
}

settings() {
    if [ ! -f "$etc/monitoring.env" ]; then
        do_it "write /etc/monitoring/monitoring.env (0640 root:monitoring)" write_settings
    fi
    [ -f "$etc/signing.key" ] ||
        do_it "make /etc/monitoring/signing.key (0640 root:monitoring)" write_key
}
write_settings() {
    (umask 027 && sed 's|^#\(MONITORING_SIGNING_KEY_FILE=\)$|\1/etc/monitoring/signing.key|' \
        "$here/.env.example" >"$etc/monitoring.env")
    own "$etc/monitoring.env" root monitoring
}
write_key() {
    (umask 027 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$etc/signing.key")
    own "$etc/signing.key" root monitoring
}

environment() {
    if [ ! -e "$opt/venv" ]; then note "folder /opt/monitoring/venv"; fi
    if [ -n "$venv" ]; then
        [ -x "$venv/bin/python" ] || fail "--venv $venv: there is no bin/python in it"
        [ "$(readlink "$opt/venv" || true)" != "$venv" ] || return 0
        do_it "use the environment $venv" ln -sfn "$venv" "$opt/venv"
        return
    fi
    [ -z "$wheel" ] || [ -f "$wheel" ] || fail "--wheel $wheel: there is no such file"
    lock=$here/../requirements.lock
    [ -f "$lock" ] || fail "there is no $lock: run this script in a checkout, or give --venv"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "Python 3.11 or newer is needed: apt-get install python3 python3-venv"
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        fail "python3 lacks its venv module: apt-get install python3-venv"
    do_it "install the package and what the lock names into /opt/monitoring/venv" fill_venv
}
fill_venv() {
    [ ! -L "$opt/venv" ] || rm "$opt/venv"
    [ -x "$opt/venv/bin/python" ] || python3 -m venv "$opt/venv"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    if [ -z "$wheel" ]; then
        locked hatchling
        (cd "$here/.." && "$opt/venv/bin/python" -m hatchling build -t wheel -d "$scratch") \
            >/dev/null 2>"$scratch/log" || { cat "$scratch/log" >&2; fail "the wheel was not built"; }
        wheel=$(echo "$scratch"/*.whl)
    fi
    wheel=$(CDPATH='' cd -- "$(dirname -- "$wheel")" && pwd)/$(basename -- "$wheel")
    locked "monitoring-v2[demo] @ file://$wheel"
    in_venv install --no-deps --force-reinstall "$wheel"
}
in_venv() { "$opt/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
locked() { # REQUIREMENT: what it depends on, of the versions and with the hashes of the lock
    sed -e '/--hash=/d' -e 's/ *\\$//' "$lock" >"$scratch/pins"
    in_venv install --dry-run --ignore-installed --only-binary :all: \
        --constraint "$scratch/pins" --report "$scratch/report" "$1"
    "$opt/venv/bin/python" "$here/service/needed.py" "$lock" "$scratch/report" >"$scratch/needed"
    in_venv install --require-hashes --only-binary :all: --requirement "$scratch/needed"
}

install_all() {
    if [ -z "$root" ] && [ "$(id -u)" -ne 0 ] && [ -z "$is_dry" ]; then
        fail "run it as root (sudo sh $0), or with --root DIR or --dry-run"
    fi
    for tool in groupadd useradd usermod install; do
        command -v $tool >/dev/null || PATH=$PATH:/usr/sbin:/sbin
        command -v $tool >/dev/null || fail "$tool is missing: apt-get install passwd coreutils"
    done
    if [ -n "$root" ] && [ -z "$is_dry" ]; then
        mkdir -p "$root/etc"
        touch "$root/etc/passwd" "$root/etc/group" "$root/etc/shadow" "$root/etc/gshadow"
        entry_of passwd root >/dev/null || echo root:x:0:0:root:/root:/bin/sh >>"$root/etc/passwd"
        entry_of group root >/dev/null || echo root:x:0: >>"$root/etc/group"
    fi
    if [ ! -d "$etc" ]; then
        do_it "make folder /etc/monitoring (0750 root:monitoring)" mkdir -p "$etc"
        note "folder /etc/monitoring"
    fi
    add_group monitoring
    add_group monitoring-audio
    add_user
    if [ -z "$is_dry" ]; then own "$etc" root monitoring; chmod 0750 "$etc"; fi

    # Hosts write, each as its own user: the group is handed down, the sticky bit keeps them apart.
    folder /var/monitoring 0755 monitoring monitoring
    folder /var/monitoring/audio 3770 monitoring monitoring-audio
    folder /var/monitoring/spool 3770 monitoring monitoring
    folder /var/monitoring/logs 2770 monitoring monitoring
    folder /var/monitoring/targets 3775 monitoring monitoring
    folder /var/backups/monitoring 0700 monitoring monitoring
    folder /opt/monitoring 0755 root root
    environment
    # Through a shell: setpriv itself still has root's rights when it looks for the program.
    [ -n "$root$is_dry" ] || setpriv --reuid=monitoring --regid=monitoring --clear-groups \
        sh -c 'cd / && "$0" -c "import deploy.cli"' "$opt/venv/bin/python" 2>/dev/null ||
        fail "user monitoring cannot run $(readlink -f "$opt/venv/bin/python") with the package:" \
            "its folders have to be open to it; use the system's Python, or another --venv"

    for unit in "$here"/service/*.service "$here"/service/*.timer; do
        file "$unit" "/etc/systemd/system/$(basename "$unit")" 0644
    done
    for script in "$here"/*.sh; do
        [ "$(basename "$script")" = install.sh ] ||
            file "$script" "/opt/monitoring/lib/$(basename "$script")" 0755
    done
    file "$here/service/host.conf" /opt/monitoring/share/host.conf 0644
    file "$here/service/logrotate.conf" /etc/logrotate.d/monitoring 0644
    file "$here/service/monitoring.sh" /usr/local/bin/monitoring 0755
    settings
    ! systemd_runs || do_it "tell systemd" systemctl daemon-reload
    next_steps
}

next_steps() {
    cat <<'TEXT'

Next:
  1. Settings: /etc/monitoring/monitoring.env; put values with spaces in double quotes.
  2. A PostgreSQL on this machine, once:
       sudo -u postgres createuser --createrole monitoring
       sudo -u postgres createdb --owner monitoring monitoring_v2
  3. Now and after each upgrade:
       sudo -u monitoring monitoring db init
       sudo systemctl enable monitoring-drilldown.service monitoring-retention.timer \
         monitoring-backup.timer monitoring-restore-drill.timer
       sudo systemctl restart monitoring-drilldown.service monitoring-retention.timer \
         monitoring-backup.timer monitoring-restore-drill.timer
  4. Your phone server: /opt/monitoring/share/host.conf
  5. sudo -u monitoring monitoring doctor
TEXT
}

remove_all() {
    [ -f "$made" ] || fail "nothing is installed here: there is no $made"
    for unit in $(sed -n 's|^file /etc/systemd/system/||p' "$made"); do
        systemd_runs && [ -f "/etc/systemd/system/$unit" ] || continue
        do_it "stop $unit" systemctl --quiet disable --now "$unit"
    done
    while read -r kind path; do
        case $kind,$path in
        file,*) [ ! -f "$root$path" ] || do_it "remove $path" rm -f "$root$path" ;;
        folder,/opt/*) [ ! -e "$root$path" ] || do_it "remove $path" rm -rf "$root$path" ;;
        esac
    done <"$made"
    ! systemd_runs || do_it "tell systemd" systemctl daemon-reload
    if [ -n "$is_purge" ]; then purge; return; fi
    echo "kept: settings, accounts, sound, spool and backups; --uninstall --purge removes them"
}

purge() {
    for name in audio spool logs targets; do
        ! has_made folder "/var/monitoring/$name" || [ ! -d "$root/var/monitoring/$name" ] ||
            do_it "remove /var/monitoring/$name" rm -rf "$root/var/monitoring/$name"
    done
    for path in /var/monitoring /var/backups/monitoring; do
        has_made folder "$path" && [ -d "$root$path" ] || continue
        if [ -n "$is_dry" ] || rmdir "$root$path" 2>/dev/null; then
            echo "${is_dry:+would }remove $path if it is empty"
        else
            echo "kept $path: it is not empty"
        fi
    done
    ! has_made user monitoring || do_it "remove user monitoring" account_tool userdel monitoring
    for group in monitoring-audio monitoring; do
        # userdel may have taken the group of the same name along.
        has_made group $group && entry_of group $group >/dev/null || continue
        do_it "remove group $group" account_tool groupdel $group
    done
    if has_made folder /etc/monitoring; then
        do_it "remove /etc/monitoring" rm -rf "$etc"
    else
        do_it "remove /etc/monitoring/installed" rm -f "$made"
    fi
}

if [ -n "$is_removal" ]; then remove_all; else install_all; fi
