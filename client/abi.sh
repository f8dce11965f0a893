#!/bin/sh
# Holds the library's binary interface against that of the last release, libironwal.abi beside this.
#
#   client/abi.sh check LIBRARY [BASELINE]   0: programs that were linked with the last release run with it
#   client/abi.sh renew LIBRARY              writes libironwal.abi; at a release, with what is released
#
# LIBRARY is a libironwal.so with debugging information, as meson makes it if it is not told otherwise. What is new is
# fine; what is gone or different is not. A struct of options that grew at its end is told, too, although older programs
# go on to work by its struct_size: look at what is told, then renew.
#
# Needs abigail-tools (Debian). Which compiler made the library, and how much it optimized, makes no difference.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case "${1-} $#" in
'check 2' | 'check 3' | 'renew 2') what=$1 library=$2 baseline=${3-$here/libironwal.abi} ;;
*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What is not in these is no part of the interface.
mkdir "$work/include"
cp "$here/ironwal.h" "$here/ironwal_submit.h" "$work/include"
abidw --headers-dir "$work/include" --drop-private-types --exported-interfaces-only --no-comp-dir-path \
	--no-corpus-path --no-elf-needed --no-parameter-names --no-show-locs --no-write-default-sizes \
	--out-file "$work/abi" "$library"
if [ "$what" = check ]; then
	abidiff --no-added-syms "$baseline" "$work/abi"
else
	# Without the place where it was built.
	sed "s| path='[^']*/\([^'/]*\)'| path='\1'|" "$work/abi" >"$baseline"
fi
