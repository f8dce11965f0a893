# What tests/demo and tests/run share: packages and build directories. To be sourced with $root, the source's
# directory, set.

BUILD_PACKAGES="build-essential meson ninja-build pkg-config libuv1-dev liblz4-dev libmsgpack-dev libxxhash-dev
	libisal-dev libinih-dev libyajl-dev libssl-dev libmicrohttpd-dev libsystemd-dev"
TEST_PACKAGES="libcriterion-dev python3 python3-msgpack mandoc abigail-tools libsqlite3-dev openssl systemd"

# With the minutes and seconds since the beginning.
began_s=$(date +%s)
say() {
	past_s=$(($(date +%s) - began_s))
	printf '== %d:%02d %s\n' $((past_s / 60)) $((past_s % 60)) "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Installs those of the named packages that are missing. Touches nothing, and needs no rights, if none is.
install_missing() {
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
		say "no apt-get here: going on with what is installed"
		return
	fi
	missing=
	for package in "$@"; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	say "installing$missing"
	if [ "$(id -u)" -eq 0 ]; then
		as_root=
	elif command -v sudo >/dev/null; then
		as_root=sudo
	else
		die "not root and no sudo: as root, run: apt-get install$missing"
	fi
	apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o Dpkg::Use-Pty=0"
	# A machine that lives for one run need not sync each file of each package.
	apt="$apt ${CI:+-o Dpkg::Options::=--force-unsafe-io}"
	apt_log=$(mktemp)
	# A source that does not answer matters only if what is missing comes from there: the second command tells.
	# shellcheck disable=SC2086
	if $apt update </dev/null >"$apt_log" 2>&1; then :; else
		cat "$apt_log" >&2
	fi
	# shellcheck disable=SC2086
	if $apt install -y --no-install-recommends $missing </dev/null >"$apt_log" 2>&1; then
		rm -f "$apt_log"
	else
		cat "$apt_log" >&2
		rm -f "$apt_log"
		die "could not install$missing"
	fi
}

# configure DIR OPTION...: a build directory of these options, whatever state it is in.
configure() {
	build_dir=$1
	shift
	if [ -f "$build_dir/meson-private/coredata.dat" ]; then
		meson setup --reconfigure "$@" "$build_dir" "$root" || meson setup --wipe "$@" "$build_dir" "$root"
	else
		meson setup "$@" "$build_dir" "$root"
	fi
}
