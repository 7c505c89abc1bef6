#!/bin/sh
# Unpack Debian sid's llama.cpp server into a folder: unpack_llamacpp.sh FOLDER
#
# With sid's own C library beside it, so that it runs on an older Debian. apt's lists and cache are
# in the folder as well: the machine's stay as they are, and nothing is installed.
set -eu
mkdir -p "$1"
cd "$1"
here=$PWD
[ "$(dpkg --print-architecture)" = amd64 ] || { echo "there is no build for this machine" >&2; exit 1; }
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" | grep -v security | head -n 1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p apt/lists/partial apt/cache/archives/partial debs
echo "deb [signed-by=$key] $mirror sid main" > apt/sources.list
cat > apt/apt.conf <<END
Dir::Etc::sourcelist "$here/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$here/apt/lists";
Dir::Cache "$here/apt/cache";
APT::Architectures "amd64";
Acquire::Languages "none";
END
export APT_CONFIG="$here/apt/apt.conf"
apt-get -qq update
cd debs
apt-get -qq download llama.cpp-tools libllama0 libggml0 libc6 libstdc++6 libgcc-s1 libgomp1 \
  libssl3t64 libzstd1 zlib1g
for deb in *.deb; do dpkg -x "$deb" "$here/root"; done
cd "$here"
rm -r apt debs
# The best of its builds that this machine's processor can run.
for build in skylakex:avx512vl haswell:avx2 sandybridge:avx x64:lm; do
  grep -qw "${build#*:}" /proc/cpuinfo && break
done
lib=root/usr/lib/x86_64-linux-gnu
cat > llama-server <<END
#!/bin/sh
cd "\$(dirname "\$0")"
export GGML_BACKEND_PATH="\$PWD/$lib/ggml/backends0/libggml-cpu-${build%:*}.so"
exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib:$lib/llama" root/usr/bin/llama-server "\$@"
END
chmod +x llama-server
