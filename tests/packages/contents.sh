# What is in the packages. Sourced by tests/packages/run.

wanted="usr/bin/academy-rt
usr/lib/systemd/system/academy-rt.service
usr/lib/systemd/system/academy-rt.socket
usr/lib/systemd/system/academy-rt-backup.service
usr/lib/systemd/system/academy-rt-backup.timer
usr/lib/sysusers.d/academy-rt.conf
usr/lib/tmpfiles.d/academy-rt.conf
etc/academy-rt/academy-rt.toml
usr/share/man/man1/academy-rt.1.gz
usr/share/man/man1/academy-rt-serve.1.gz
usr/share/man/man5/academy-rt.toml.5.gz
usr/share/man/man7/academy-rt.7.gz
usr/share/bash-completion/completions/academy-rt
usr/share/fish/vendor_completions.d/academy-rt.fish
usr/share/doc/academy-rt/LICENSE
usr/share/doc/academy-rt/third-party-licences.txt
usr/share/doc/academy-rt/sbom.cdx.json
$(for page in docs/*.md; do echo "usr/share/doc/academy-rt/$page"; done)"

has_all() {
  local list missing=0
  list=$(cat)
  for file in $wanted "$@"; do
    grep -qxF "$file" <<< "$list" || { echo "$file is missing"; missing=1; }
  done
  return $missing
}
deb_has_all() { dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's|^\./||' | has_all usr/share/zsh/vendor-completions/_academy-rt usr/share/doc/academy-rt/copyright; }
rpm_has_all() { rpm -qlp "$rpm" | sed 's|^/||' | has_all usr/share/zsh/site-functions/_academy-rt usr/lib/systemd/system-preset/80-academy-rt.preset; }
tarball_has_all() { tar -tzf "$tarball" | sed 's|^academy-rt-[^/]*/||' | has_all usr/share/zsh/site-functions/_academy-rt install.sh; }
owned_by_root() { ! dpkg-deb --fsys-tarfile "$deb" | tar -tv --numeric-owner | grep -v ' 0/0 '; }
needs_systemd_alone() {
  is "$(dpkg-deb -f "$deb" Depends)" "systemd (>= 252)" &&
    is "$(rpm -qp --requires "$rpm" | grep -vE '^(rpmlib|config)\(' | sort -u | tr '\n' ' ')" "/bin/sh systemd >= 252 "
}
kept_by_rpm() { is "$(rpm -qp --configfiles "$rpm")" /etc/academy-rt/academy-rt.toml && rpm -qp --qf '[%{FILENAMES} %{FILEFLAGS:fflags}\n]' "$rpm" | grep -qx '/etc/academy-rt/academy-rt.toml cn'; }

# No crate of the binary is missing from the two lists.
lists_are_whole() {
  local doc=$work/doc/usr/share/doc/academy-rt crates
  crates=$(cargo tree --quiet --locked --edges normal --no-dedupe --prefix none --target "$(rustc -vV | sed -n 's/^host: //p')" |
    sed -nE 's/^([A-Za-z0-9_-]+) v([^ ]+).*/\1 \2/p' | grep -v '^academy-rt ' | sort -u)
  [ "$(wc -l <<< "$crates")" -gt 100 ] || { echo "only these crates: $crates"; return 1; }
  python3 - "$doc" <<< "$crates" <<'PYTHON' 3<<< "$crates"
import json, os, re, sys
doc = sys.argv[1]
crates = [line.split() for line in os.fdopen(3)]
bom = json.load(open(f"{doc}/sbom.cdx.json"))
assert bom["bomFormat"] == "CycloneDX", bom["bomFormat"]
parts = {(part["name"], part["version"]) for part in bom["components"]}
texts = open(f"{doc}/third-party-licences.txt").read()
for name, version in crates:
    assert (name, version) in parts, f"{name} {version} is not in the SBOM"
    # A procedural macro is run at the build alone.
    assert f"\n  {name} {version} " in texts or f"\n  {name} {version}\n" in texts, f"{name} {version} has no licence text"
assert any(name == "glibc" for name, _ in parts), "the C library is not in the SBOM"
assert "GNU LESSER GENERAL PUBLIC LICENSE" in texts
assert os.getcwd() not in texts + json.dumps(bom), "a directory of the build is in the lists"
PYTHON
}

check "the .deb has everything" deb_has_all
check "the .rpm has everything" rpm_has_all
check "the tarball has everything" tarball_has_all
check "all of the .deb is root's" owned_by_root
check "they need systemd 252, and nothing else" needs_systemd_alone
check "the .rpm keeps a configuration that was changed" kept_by_rpm
check "the check sums are right" bash -c "cd '$packages' && sha256sum --check --strict SHA256SUMS"
mkdir "$work/doc"
dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/doc"
check "the SBOM and the licence texts have each crate, and the C library" lists_are_whole
check "the binary is static" bash -c "! readelf -lW '$work/doc/usr/bin/academy-rt' | grep INTERP && ! readelf -dW '$work/doc/usr/bin/academy-rt' | grep NEEDED"
for script in postinst prerm postrm; do
  dpkg-deb -e "$deb" "$work/control"
  check "the $script is a shell script without a mistake of syntax" sh -n "$work/control/$script"
done
