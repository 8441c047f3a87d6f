#!/bin/sh
# Backs up all of monitoring on this server: makes a dated backup, reads it through, keeps the newest.
# For a timer: one line on success, exit code 0; otherwise a reason on standard error, exit code 1.
#
#   BACKUP_DIR        where backups go (/var/backups/monitoring)
#   BACKUP_KEEP       how many are kept (7)
#   BACKUP_OPTIONS    more for `monitoring backup`, such as "--audio 24 --include /etc/asterisk"
#   BACKUP_ENCRYPT    a command that encrypts standard input, such as "age -r age1..."
#   BACKUP_SUFFIX     the end of an encrypted backup's name (.age)
#   MONITORING        the command (monitoring)
#
# MONITORING_* settings are read as by every command. Nothing is removed before the new backup is whole.
set -eu
umask 077

dir=${BACKUP_DIR:-/var/backups/monitoring}
keep=${BACKUP_KEEP:-7}
options=${BACKUP_OPTIONS:-}
encrypt=${BACKUP_ENCRYPT:-}
monitoring=${MONITORING:-monitoring}

fail() {
    echo "backup_monitoring: $*" >&2
    exit 1
}

case $keep in
    '' | *[!0-9]* | 0) fail "BACKUP_KEEP=$keep: expected a number above 0" ;;
esac

mkdir -p "$dir"
work=$(mktemp -d "$dir/.unfinished.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

name=monitoring-$(date -u +%Y%m%dT%H%M%SZ).tar
if [ -z "$encrypt" ]; then
    # shellcheck disable=SC2086 # options are several words
    "$monitoring" backup -o "$work/backup" $options >"$work/said" || fail "no backup was made"
    "$monitoring" backup verify "$work/backup" >"$work/verdict" || fail "$(cat "$work/verdict")"
else
    # What is encrypted may not be readable here: it is read through on its way.
    name=$name${BACKUP_SUFFIX:-.age}
    mkfifo "$work/pipe"
    "$monitoring" backup verify - <"$work/pipe" >"$work/verdict" &
    verifier=$!
    # shellcheck disable=SC2086
    {
        "$monitoring" backup -o - $options 2>"$work/said" || echo failed >"$work/failed"
    } | tee "$work/pipe" | sh -c "$encrypt" >"$work/backup" || echo failed >"$work/failed"
    wait "$verifier" || fail "$(cat "$work/verdict" "$work/said")"
    [ ! -e "$work/failed" ] || fail "no backup was made: $(cat "$work/said")"
    [ -s "$work/backup" ] || fail "BACKUP_ENCRYPT wrote nothing"
fi

sync
mv "$work/backup" "$dir/$name"

# The names sort by time.
find "$dir" -maxdepth 1 -type f -name 'monitoring-*.tar*' | sort -r | tail -n "+$((keep + 1))" |
    while IFS= read -r old; do
        rm -f "$old"
    done

echo "$dir/$name: $(wc -c <"$dir/$name" | tr -d ' ') bytes, whole"
