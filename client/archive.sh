#!/bin/sh
# Makes the static library that is installed: one object, in which the library's own names are all that can be seen, so
# that they cannot clash with those of a program, as the version script sees to for the shared one.
#
# Usage: archive.sh LD OBJCOPY AR MAP INPUT OUTPUT
#   MAP is libironwal.map, INPUT an archive of the library's objects, OUTPUT the archive to make.
set -eu
ld=$1 objcopy=$2 ar=$3 map=$4 input=$5 output=$6
names=$output.names
object=${output%.a}.o
trap 'rm -f "$names" "$object"' EXIT
sed -n 's/^[[:space:]]*\(ironwal_[a-z0-9_]*\);$/\1/p' "$map" >"$names"
"$ld" -r --whole-archive "$input" -o "$object"
"$objcopy" --keep-global-symbols="$names" "$object"
rm -f "$output"
"$ar" rcs "$output" "$object"
