#!/bin/sh
# Install what some tests use: Prometheus with promtool and amtool, strace, Chromium, recorded
# prompts, and JSON Schemas of Grafana's types, which npm's packages bring (they stay in .cache).
# For Debian and Ubuntu, as root or through sudo. No service is started, now or at the next boot.
set -eu

PACKAGES="prometheus prometheus-alertmanager strace chromium fonts-dejavu-core asterisk-core-sounds-en-wav asterisk-core-sounds-fr-wav"
POLICY=/usr/sbin/policy-rc.d
SCHEMAS="$(cd "$(dirname "$0")/.." && pwd)/.cache/grafana-schema"
GRAFANA_SCHEMA=13.2.3
GENERATOR=2.4.0
PANELS="bargauge heatmap stat statetimeline table timeseries"

install_packages() {
    missing=""
    # An npm that did not come from a package is as good.
    command -v npm >/dev/null || PACKAGES="$PACKAGES nodejs npm"
    for package in $PACKAGES; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" ||
            missing="$missing $package"
    done
    if [ -z "$missing" ]; then
        echo "test tools: all packages are installed"
        return
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
    *prometheus*)
        [ ! -d /run/systemd/system ] ||
            $as_root systemctl disable --quiet prometheus prometheus-alertmanager
        ;;
    esac
}

# One file for a dashboard, one for the options and one for the field options of each panel type.
generate_schemas() {
    made="$GRAFANA_SCHEMA $GENERATOR $PANELS"
    if [ "$(cat "$SCHEMAS/made" 2>/dev/null)" = "$made" ]; then
        echo "test tools: Grafana's schemas are there"
        return
    fi
    echo "test tools: generating Grafana's schemas"
    rm -rf "$SCHEMAS"
    mkdir -p "$SCHEMAS/npm"
    (cd "$SCHEMAS/npm" && echo '{"private": true}' >package.json &&
        npm install --silent --no-audit --no-fund --no-progress --ignore-scripts \
            --cache "$SCHEMAS/../npm" \
            "@grafana/schema@$GRAFANA_SCHEMA" "ts-json-schema-generator@$GENERATOR" >/dev/null)
    generator="$SCHEMAS/npm/node_modules/.bin/ts-json-schema-generator"
    types="$SCHEMAS/npm/node_modules/@grafana/schema/dist/types/raw"
    "$generator" --path "$types/dashboard/x/types.gen.d.ts" --type Dashboard --no-type-check \
        -o "$SCHEMAS/dashboard.json"
    for panel in $PANELS; do
        path="$types/composable/$panel/panelcfg/x/types.gen.d.ts"
        for type in Options FieldConfig; do
            # Not every panel has field options of its own.
            grep -q "interface $type\b" "$path" || continue
            "$generator" --path "$path" --type "$type" --no-type-check --additional-properties \
                -o "$SCHEMAS/$panel.$type.json"
        done
    done
    rm -rf "$SCHEMAS/npm"
    echo "$made" >"$SCHEMAS/made"
}

install_packages
generate_schemas
