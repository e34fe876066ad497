#!/usr/bin/env bash
# Builds the packages into target/dist: a Python wheel, a Debian package and an archive, with their checksums and a list of what is in
# the binaries.
#
# The binaries are built apart from those of `make`, with zig's linker: it links for an older glibc than this machine's. The same
# commit, Rust and CUDA compiler give the same bytes in every folder: times come from the commit, paths of this machine are taken out
# of the binaries (build/images.rs keeps them out of the kernels), and files are packed in order.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C

triple=x86_64-unknown-linux-gnu
glibc=2.28
library_folder=lib/x86_64-linux-gnu # Debian's
version="$(tools/version.sh)"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
dist="$PWD/target/dist"
work="$PWD/target/dist-work"
builds="$PWD/target/dist-build"
library="$builds/dime/$triple/release/libdime.so"
tool="$builds/dime-cli/$triple/release/dime"
kit="$(tools/install_dist_tools.sh)"

build() {
    # Two invocations, as in the Makefile. In folders of their own, or each would build again the crate that they have in common.
    local package
    mkdir -p target/kernels
    for package in dime dime-cli; do
        mkdir -p "$builds/$package/$triple"
        ln -sfn "$PWD/target/kernels" "$builds/$package/$triple/kernels" # compiled images are kept by a hash of all that goes in
        PATH="$kit/bin:$PATH" CARGO_ZIGBUILD_ZIG_PATH="$kit/ziglang/zig" \
            CARGO_ZIGBUILD_CACHE_DIR="$builds/zig" ZIG_GLOBAL_CACHE_DIR="$builds/zig" ZIG_LOCAL_CACHE_DIR="$builds/zig" \
            RUSTFLAGS="--remap-path-prefix=$PWD=/dime --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
            CARGO_TARGET_DIR="$builds/$package" \
            cargo zigbuild --release --locked --target "$triple.$glibc" --package "$package"
    done
    tools/check_glibc.sh "$glibc" "$library" "$tool"
}

# fill TEMPLATE FILE NAME=VALUE...: a file from a template, with each @NAME@ replaced.
fill() {
    local template="$1" file="$2" assignment
    local -a edits=(-e "s|@VERSION@|$version|g")
    shift 2
    for assignment in "$@"; do edits+=(-e "s|@${assignment%%=*}@|${assignment#*=}|g"); done
    mkdir -p "$(dirname "$file")"
    sed "${edits[@]}" "$template" >"$file"
}

# stage PREFIX LIB UP: what both the archive and Debian's package have below their prefix. LIB is the folder of libraries, UP leads from
# LIB/pkgconfig back to the prefix.
stage() {
    local prefix="$1" lib="$1/$2" up="$3"
    install -D -m 755 "$tool" "$prefix/bin/dime"
    # In a folder of its own: the loader's cache would list libdime.so under its SONAME, libnccl.so.2.
    install -D -m 644 "$library" "$lib/dime/libdime.so"
    ln -s libdime.so "$lib/dime/libnccl.so.2"
    ln -s libnccl.so.2 "$lib/dime/libnccl.so"
    install -D -m 644 -t "$prefix/include/dime" include/*.h
    fill packages/dime.pc.in "$lib/pkgconfig/dime.pc" "UP=$up"
    fill packages/cmake/dime-config.cmake.in "$lib/cmake/dime/dime-config.cmake" "UP=$up"
    fill packages/cmake/dime-config-version.cmake.in "$lib/cmake/dime/dime-config-version.cmake"
    install -D -m 644 -t "$prefix/share/man/man1" "$work"/man/*.1
    install -D -m 644 "$work/completions/bash" "$prefix/share/bash-completion/completions/dime"
    install -D -m 644 "$work/completions/fish" "$prefix/share/fish/vendor_completions.d/dime.fish"
    install -D -m 644 -t "$prefix/share/doc/dime" LICENSE-APACHE LICENSE-MIT "$work/THIRD-PARTY-LICENSES" CHANGELOG.md
}

# All files of a folder get the commit's time.
set_times() { find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +; }

pack_archive() {
    local name="dime-$version-linux-x86_64"
    local root="$work/archive/$name"
    stage "$root" lib ../..
    install -D -m 644 "$work/completions/zsh" "$root/share/zsh/site-functions/_dime"
    install -m 644 README.md "$root/README.md"
    cp -r docs "$root/docs"
    set_times "$root"
    tar --create --directory "$work/archive" --sort=name --owner=0 --group=0 --numeric-owner --format=gnu "$name" |
        gzip --no-name --best >"$dist/$name.tar.gz"
}

pack_deb() {
    local root="$work/deb" kib
    stage "$root/usr" "$library_folder" ../../..
    install -D -m 644 "$work/completions/zsh" "$root/usr/share/zsh/vendor-completions/_dime"
    gzip --no-name --best "$root"/usr/share/man/man1/*.1 "$root/usr/share/doc/dime/CHANGELOG.md"
    mv "$root/usr/share/doc/dime/CHANGELOG.md.gz" "$root/usr/share/doc/dime/changelog.gz"
    install -m 644 packages/debian/copyright "$root/usr/share/doc/dime/copyright"
    kib="$(find "$root" -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')"
    fill packages/debian/control.in "$root/DEBIAN/control" "INSTALLED_KIB=$kib"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    set_times "$root"
    dpkg-deb --build --root-owner-group -Zxz "$root" "$dist/dime_${version}_amd64.deb" >/dev/null
}

pack_wheel() {
    local root="$work/wheel"
    local info="$root/dime_nccl-$version.dist-info"
    install -D -m 755 "$tool" "$root/dime/bin/dime"
    install -D -m 644 "$library" "$root/dime/lib/libdime.so"
    install -D -m 644 -t "$root/dime/include" include/*.h
    fill packages/python/dime/__init__.py.in "$root/dime/__init__.py"
    install -m 644 packages/python/dime/__main__.py "$root/dime/__main__.py"
    fill packages/python/METADATA.in "$info/METADATA"
    install -m 644 packages/python/WHEEL packages/python/entry_points.txt "$info"
    install -D -m 644 -t "$info/licenses" LICENSE-APACHE LICENSE-MIT "$work/THIRD-PARTY-LICENSES"
    install -D -m 644 "$work/components.json" "$info/sboms/dime.cdx.json"
    # It writes RECORD, and gives all files the time of SOURCE_DATE_EPOCH.
    PYTHONPATH="$kit" python3 -m wheel pack --dest-dir "$dist" "$root" >/dev/null
}

build
rm -rf "$dist" "$work"
mkdir -p "$dist" "$work"/{man,completions}
"$tool" manual "$work/man"
for shell in bash zsh fish; do "$tool" completions "$shell" >"$work/completions/$shell"; done
python3 tools/components.py "$version" "$triple" "$kit/ziglang" "$work/THIRD-PARTY-LICENSES" "$work/components.json"
pack_archive
pack_deb
pack_wheel
install -m 644 "$work/components.json" "$dist/dime-$version.cdx.json"
(cd "$dist" && sha256sum -- * >SHA256SUMS.partial && mv SHA256SUMS.partial SHA256SUMS)
rm -rf "$work"
echo "target/dist has"
(cd "$dist" && ls -sh1 | tail -n +2)
