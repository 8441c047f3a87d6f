#!/bin/sh
# Proves that the newest backup can be restored: into a PostgreSQL of its own, below a scratch folder
# that is removed afterwards. Rows and sound are compared with their hashes; nothing else is touched.
# For a timer: one line, exit code 0 when all is there, 1 otherwise.
#
#   BACKUP_DIR        where backups are (/var/backups/monitoring)
#   BACKUP_DECRYPT    a command that decrypts standard input, such as "age -d -i /root/backup.key"
#   DRILL_DIR         where the scratch folder is made ($TMPDIR, or /var/tmp); as much room as the backup
#   MONITORING        the command (monitoring)
set -eu
umask 077

dir=${BACKUP_DIR:-/var/backups/monitoring}
decrypt=${BACKUP_DECRYPT:-}
monitoring=${MONITORING:-monitoring}

fail() {
    echo "restore_drill: FAILED: $*"
    exit 1
}

newest=$(find "$dir" -maxdepth 1 -type f -name 'monitoring-*.tar*' 2>/dev/null | sort | tail -n 1)
[ -n "$newest" ] || fail "no backup in $dir"

scratch=$(mktemp -d "${DRILL_DIR:-${TMPDIR:-/var/tmp}}/monitoring-drill.XXXXXX")
# Where the server's account cannot come, its data are elsewhere, and a note says where.
moved=$scratch/archive/postgres/moved_to
trap '[ ! -f "$moved" ] || rm -rf "$(cat "$moved")"; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
# The server runs under an account of its own, which passes through.
chmod 711 "$scratch"
mkdir -m 711 "$scratch/archive"

if [ -z "$decrypt" ]; then
    "$monitoring" restore "$newest" --into-embedded "$scratch/archive" \
        >"$scratch/said" 2>"$scratch/errors" || fail "$newest: $(tail -n 20 "$scratch/errors")"
else
    # shellcheck disable=SC2094 # the pipe's exit code is that of the restore
    sh -c "$decrypt" <"$newest" 2>"$scratch/decrypt" |
        "$monitoring" restore - --into-embedded "$scratch/archive" \
            >"$scratch/said" 2>"$scratch/errors" ||
        fail "$newest: $(cat "$scratch/decrypt") $(tail -n 20 "$scratch/errors")"
fi
echo "restore_drill: ok: $newest: $(sed -n 's/^restored [^:]*: //p' "$scratch/said")"
