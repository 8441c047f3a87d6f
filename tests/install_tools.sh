#!/bin/sh
# Install what some tests use: Prometheus with promtool, strace, Chromium, recorded prompts.
# For Debian and Ubuntu, as root or through sudo. No service is started, now or at the next boot.
set -eu

PACKAGES="prometheus strace chromium fonts-dejavu-core asterisk-core-sounds-en-wav asterisk-core-sounds-fr-wav"
POLICY=/usr/sbin/policy-rc.d

missing=""
for package in $PACKAGES; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" ||
        missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "test tools: all are installed"
    exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "test tools: run as root, or install sudo" >&2; exit 1; }
    as_root="sudo"
fi

# The tests start a Prometheus of their own: the package must not start one, so its scripts are
# told "not allowed" (101) unless this machine has a policy already.
if [ ! -e "$POLICY" ]; then
    trap '$as_root rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$POLICY" >/dev/null
    $as_root chmod 755 "$POLICY"
fi

echo "test tools: installing$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of names
$as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
case "$missing" in
*prometheus*) [ ! -d /run/systemd/system ] || $as_root systemctl disable --quiet prometheus ;;
esac
