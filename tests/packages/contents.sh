# What is in the packages. Sourced by tests/packages/run.

wanted="usr/bin/academy-rt
usr/lib/systemd/system/academy-rt.service
usr/lib/systemd/system/academy-rt.socket
usr/lib/systemd/system/academy-rt-backup.service
usr/lib/systemd/system/academy-rt-backup.timer
usr/lib/sysusers.d/academy-rt.conf
usr/lib/tmpfiles.d/academy-rt.conf
usr/share/man/man1/academy-rt.1.gz
usr/share/man/man1/academy-rt-serve.1.gz
usr/share/man/man5/academy-rt.toml.5.gz
usr/share/man/man7/academy-rt.7.gz
usr/share/bash-completion/completions/academy-rt
usr/share/fish/vendor_completions.d/academy-rt.fish
usr/share/doc/academy-rt/README.md
usr/share/doc/academy-rt/academy-rt.toml
usr/share/doc/academy-rt/LICENSE
usr/share/doc/academy-rt/third-party-licences.txt
usr/share/doc/academy-rt/sbom.cdx.json
$(for page in docs/*.md; do echo "usr/share/doc/academy-rt/$page"; done)
$(for file in assets/platform/*; do echo "usr/share/doc/academy-rt/platform/$(basename "$file")"; done)"

has_all() {
  local list missing=0
  list=$(cat)
  for file in $wanted "$@"; do
    grep -qxF "$file" <<< "$list" || { echo "$file is missing"; missing=1; }
  done
  return $missing
}
deb_has_all() { dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's|^\./||' | has_all usr/share/academy-rt/academy-rt.toml usr/share/zsh/vendor-completions/_academy-rt usr/share/doc/academy-rt/copyright; }
rpm_has_all() { rpm -qlp "$rpm" | sed 's|^/||' | has_all usr/share/zsh/site-functions/_academy-rt usr/lib/systemd/system-preset/80-academy-rt.preset etc/academy-rt/academy-rt.toml; }
tarball_has_all() { tar -tzf "$tarball" | sed 's|^academy-rt-[^/]*/||' | has_all usr/share/academy-rt/academy-rt.toml usr/share/zsh/site-functions/_academy-rt install.sh; }
# Not `! a | b | grep`: that is good when nothing is listed, too.
owned_by_root() {
  local list
  list=$(dpkg-deb --fsys-tarfile "$deb" | tar -tv --numeric-owner) && [ "$(wc -l <<< "$list")" -gt 50 ] || { echo "this is listed: $list"; return 1; }
  ! grep -v ' 0/0 ' <<< "$list"
}
is_static() {
  local parts
  parts=$(readelf -lW "$work/doc/usr/bin/academy-rt" && readelf -dW "$work/doc/usr/bin/academy-rt") && grep -q LOAD <<< "$parts" || return 1
  ! grep -E 'INTERP|NEEDED' <<< "$parts"
}
needs_systemd_alone() {
  is "$(dpkg-deb -f "$deb" Depends)" "systemd (>= 252)" &&
    is "$(rpm -qp --requires "$rpm" | grep -vE '^(rpmlib|config)\(' | sort -u | tr '\n' ' ')" "/bin/sh systemd >= 252 "
}
has_no_conffile() { dpkg-deb -e "$deb" "$work/conffiles" && absent "$work/conffiles/conffiles"; }
kept_by_rpm() { is "$(rpm -qp --configfiles "$rpm")" /etc/academy-rt/academy-rt.toml && rpm -qp --qf '[%{FILENAMES} %{FILEFLAGS:fflags}\n]' "$rpm" | grep -x '/etc/academy-rt/academy-rt.toml cn'; }

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

# The documents as they are installed: links lead somewhere, and what is said to be run is there without a source tree.
documents_fit() {
  python3 - "$work/doc/usr/share/doc/academy-rt" <<'PYTHON'
import pathlib, re, sys
doc = pathlib.Path(sys.argv[1])
pages = [doc / "README.md", *sorted((doc / "docs").glob("*.md"))]
assert len(pages) > 8, pages
wrong = []
for page in pages:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in link and " " not in link and not (page.parent / link).exists():
            wrong.append(f"{page.name}: {link} leads nowhere")
readme = pages[0].read_text()
wrong += [f"README.md speaks of {word}" for word in ("cargo", "target/", "tests/run", "packaging/") if word in readme]
# Each path that the page says a package has installed, that one has.
root = doc.parents[3]
made = ("/etc/academy-rt", "/var/lib/academy-rt", "/usr/share/doc/academy-rt/")
for path in set(re.findall(r"`(/usr/[^`*]+)`", readme)):
    if not (root / path.lstrip("/")).exists():
        wrong.append(f"README.md: {path} is not in the package")
assert not wrong, "\n".join(wrong)
PYTHON
}
# Every page that a manual page or a unit refers to is in the package, or is one of systemd's.
pages_exist() {
  python3 - "$work/doc" <<'PYTHON'
import gzip, pathlib, re, sys
root = pathlib.Path(sys.argv[1])
pages = {path.name[:-3]: gzip.open(path, "rt").read() for path in (root / "usr/share/man").rglob("*.gz")}
assert len(pages) > 50, len(pages)
named = set()
for name, text in pages.items():
    plain = re.sub(r"\\f[BIRP]", "", text).replace("\\-", "-")
    found = re.findall(r"^\.BR (academy[a-z.-]*) +\(([1-8])\)", plain, re.M) + re.findall(r"(academy-rt[a-z.-]*)\(([1-8])\)", plain)
    assert found, f"{name} refers to no other page"
    named |= {(name, ".".join(one)) for one in found}
for unit in (root / "usr/lib/systemd/system").iterdir():
    named |= {(unit.name, ".".join(one)) for one in re.findall(r"man:([a-z.-]+)\(([1-8])\)", unit.read_text())}
wrong = [f"{where} refers to {page}, which is not there" for where, page in sorted(named) if page not in pages]
assert not wrong, "\n".join(wrong)
PYTHON
}

# The same stage gives the same packages, whatever the time, the clock's zone and the mask of new files are; and their check sums
# can be signed, with a key of this test.
packs_twice() {
  local ring=$work/keyring
  mkdir -m 700 "$ring"
  gpg --homedir "$ring" --batch --quiet --passphrase '' --quick-generate-key 'Test of packages <test@localhost>' ed25519 sign never &&
    gpg --homedir "$ring" --batch --quiet --armor --export-secret-keys > "$work/signing-key.asc" &&
    gpg --homedir "$ring" --batch --quiet --export > "$work/academy-rt-release.gpg" || return 1
  gpgconf --homedir "$ring" --kill all
  PACKAGING_KEY=$work/signing-key.asc packaging/pack "$work/once" || return 1
  find target/stage -exec touch {} +
  (umask 077; TZ=America/Toronto packaging/pack "$work/again") || return 1
  absent "$work/again/SHA256SUMS.asc" || return 1
  [ "$(ls "$work/again" | wc -l)" -eq 7 ] || { ls "$work/again"; return 1; }
  for file in "$work"/again/*; do cmp "$file" "$work/once/$(basename "$file")" || return 1; done
}
verifies() { (cd "$work/once" && gpgv --keyring "$work/academy-rt-release.gpg" SHA256SUMS.asc SHA256SUMS && sha256sum --check --strict SHA256SUMS); }
refuses_another() {
  sed 's/^./0/; 2,$d' "$work/once/SHA256SUMS" > "$work/forged"
  ! gpgv --keyring "$work/academy-rt-release.gpg" "$work/once/SHA256SUMS.asc" "$work/forged" || return 1
  # A key file without a secret key signs nothing, and says so.
  ! PACKAGING_KEY=$work/academy-rt-release.gpg packaging/pack "$work/unsigned" && absent "$work/unsigned/SHA256SUMS.asc"
}

check "the .deb has everything" deb_has_all
check "the .rpm has everything" rpm_has_all
check "the tarball has everything" tarball_has_all
check "all of the .deb is root's" owned_by_root
check "they need systemd 252, and nothing else" needs_systemd_alone
check "the .deb has no conffile that dpkg could ask about" has_no_conffile
check "the .rpm keeps a configuration that was changed" kept_by_rpm
check "the check sums are right" bash -c "cd '$packages' && sha256sum --check --strict SHA256SUMS"
mkdir "$work/doc"
dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/doc"
check "the documents speak of what is installed, and their links lead somewhere" documents_fit
check "each manual page that is referred to is there" pages_exist
check "the same stage gives the same packages, bit by bit" packs_twice
check "the signature of the check sums is good, and so are they" verifies
check "the signature of other check sums is not, and a key that cannot sign is refused" refuses_another
check "the SBOM and the licence texts have each crate, and the C library" lists_are_whole
check "the binary is static" is_static
for script in preinst postinst prerm postrm; do
  [ -d "$work/control" ] || dpkg-deb -e "$deb" "$work/control"
  check "the $script is a shell script without a mistake of syntax" sh -n "$work/control/$script"
done
