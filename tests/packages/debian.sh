# The .deb in a bare Debian where no systemd runs: installed, run, upgraded, removed, purged. Sourced by tests/packages/run.

root=$work/debian
debian debian
token() { in_root "$root" academy-rt token issue --user 7 --name Ann --role learner | tail -1; }
owner_of() { in_root "$root" stat -c '%a %U:%G' "$1"; }

cp "$deb" "$root/tmp/academy-rt.deb"
check "it is installed, and asks nothing" in_root "$root" dpkg -i /tmp/academy-rt.deb
check "its user may not sign in" bash -c "grep '^academy-rt:' '$root/etc/passwd' | grep ':/var/lib/academy-rt:/usr/sbin/nologin\$'"
check "and has a locked password" bash -c "grep '^academy-rt:[!*]' '$root/etc/shadow'"
for line in "/usr/bin/academy-rt 755 root:root" "/etc/academy-rt 755 root:root" "/etc/academy-rt/academy-rt.toml 644 root:root" \
  "/etc/academy-rt/tls 750 root:academy-rt" "/etc/academy-rt/conf.d 755 root:root" "/var/lib/academy-rt 700 academy-rt:academy-rt" \
  "/var/lib/academy-rt-backups 700 academy-rt:academy-rt" "/run/academy-rt-readers 2750 academy-rt:academy-rt-readers" "/usr/lib/systemd/system/academy-rt.service 644 root:root"; do
  check "${line%% *} is ${line#* }" is "$(owner_of "${line%% *}")" "${line#* }"
done
for unit in sockets.target.wants/academy-rt.socket multi-user.target.wants/academy-rt.service timers.target.wants/academy-rt-backup.timer; do
  check "$(basename $unit) is enabled" test -L "$root/etc/systemd/system/$unit"
done

verified() { in_root "$root" systemd-analyze verify --man=no academy-rt.service academy-rt.socket academy-rt-backup.service academy-rt-backup.timer >"$work/verify" 2>&1 || { cat "$work/verify"; return 1; }; is "$(cat "$work/verify")" ""; }
check "systemd-analyze verify finds nothing in the units" verified
# 15 is 1.5: what is worse makes the command fail.
for unit in academy-rt academy-rt-backup; do
  check "systemd-analyze security of $unit: 1.5 or better" systemd-analyze security --offline=true --threshold=15 "$root/usr/lib/systemd/system/$unit.service"
done
check "systemd-analyze security finds the bare unit worse than that" \
  bash -c "printf '[Service]\nExecStart=/bin/true\n' > '$work/bare.service'; ! systemd-analyze security --offline=true --threshold=15 '$work/bare.service'"

STRACE="strace -D -f -qq -o $work/calls" check "the service starts as its user" start "$root"
check "a message goes round" say "before the upgrade"
check "an administrator sees it, with no more words than status" in_root "$root" academy-rt status
private() { test -s "$root/var/lib/academy-rt/academy.redb" && ! find "$root/var/lib/academy-rt" "$root/run/academy-rt" ! -type l -perm /027 ! -path "$root/run/academy-rt" ! -name control.sock | grep .; }
check "nobody else can read what it has written" private
of_user() { find "$root" -xdev -user "$(in_root "$root" id -u academy-rt)" ! -path "$root/proc/*"; }
elsewhere() {
  local found
  found=$(of_user) && grep -q "^$root/var/lib/academy-rt/" <<< "$found" || { echo "this is its user's: $found"; return 1; }
  ! grep -vE "^$root/(var/lib|run)/academy-rt" <<< "$found"
}
check "it has written nothing elsewhere" elsewhere
check "it stops in order" stop
# What its sandbox would refuse. exit_group and the like have no answer, and the calls before the program's own are those of chroot.
filtered() {
  local allowed used
  allowed=$(in_root "$root" systemd-analyze syscall-filter | awk '/^@/ { set = $1 } /^ / { print set, $1 }')
  used=$(awk '/execve\("\/usr\/bin\/academy-rt"/ { on = 1 } on' "$work/calls" | sed -nE 's/^[0-9]+ +([a-z_0-9]+)\(.*/\1/p' | sort -u)
  [ "$(wc -w <<< "$used")" -gt 20 ] || { echo "only these calls were seen: $used"; return 1; }
  python3 - "$root/usr/lib/systemd/system/academy-rt.service" 3<<< "$allowed" 4<<< "$used" <<'PYTHON'
import os, sys
sets = {}
for line in os.fdopen(3):
    name, member = line.split()
    sets.setdefault(name, set()).add(member)
def calls(name):
    return {name} if not name.startswith("@") else set().union(*map(calls, sets[name]))
allowed = set()
for line in open(sys.argv[1]):
    if line.startswith("SystemCallFilter="):
        value = line.strip().split("=", 1)[1]
        named = set().union(*map(calls, value.lstrip("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
assert "read" in allowed and "mount" not in allowed
refused = {call.strip() for call in os.fdopen(4)} - allowed
assert not refused, f"the unit refuses {refused}"
PYTHON
}
check "it makes no call that its unit refuses" filtered

backup() { in_root "$root" setpriv --reuid academy-rt --regid academy-rt --clear-groups sh -ec "umask 077; $(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/academy-rt-backup.service")"; }
check "the backup's command makes one" backup
backups() { find "$root/var/lib/academy-rt-backups" -type f | wc -l; }
check "there it is" is "$(backups)" 1

# The same program under a higher version, which brings another configuration.
next() {
  dpkg-deb -R "$deb" "$work/next" &&
    sed -i "s/^Version: .*/Version: $newer/" "$work/next/DEBIAN/control" &&
    find "$work/next" -name academy-rt.toml -type f -exec sh -c 'echo "# of the next version" >> "$1"' each {} \; &&
    dpkg-deb --root-owner-group -b "$work/next" "$root/tmp/next.deb"
}
check "a newer package is made" next
echo '# mine' >> "$root/etc/academy-rt/academy-rt.toml"
secret=$(in_root "$root" sha256sum /var/lib/academy-rt/jwt-secret || echo none)
printf '[limits]\nsockets_per_user = 7\n' > "$root/etc/academy-rt/conf.d/50-site.toml"
# Nobody is there to answer: what asks is given up.
check "it is upgraded by apt -y, and asks nothing" in_root "$root" apt-get -y -o Dpkg::Use-Pty=0 install /tmp/next.deb
check "to the newer version" is "$(in_root "$root" dpkg-query -W -f '${Version}' academy-rt)" "$newer"
check "the configuration is the administrator's" is "$(tail -1 "$root/etc/academy-rt/academy-rt.toml")" "# mine"
check "conf.d is the administrator's" bash -c "chroot '$root' academy-rt config show | grep '^sockets_per_user = 7 .*conf.d/50-site.toml:2'"
check "config check names the files" bash -c "chroot '$root' academy-rt config check | grep -A1 '^read: /etc/academy-rt/academy-rt.toml' | grep -x 'read: /etc/academy-rt/conf.d/50-site.toml'"
check "the secret is the old one" is "$(in_root "$root" sha256sum /var/lib/academy-rt/jwt-secret || echo gone)" "$secret"
check "the service starts again" start "$root"
say "after the upgrade" > "$work/history" || true
check "the message of before is there" is "$(cat "$work/history")" "before the upgrade"
check "it stops in order again" stop

check "it is removed" in_root "$root" dpkg -r academy-rt
check "the program is gone" absent "$root/usr/bin/academy-rt" "$root/usr/lib/systemd/system/academy-rt.service"
check "the data stay" test -s "$root/var/lib/academy-rt/academy.redb"
check "the configuration stays" grep -qx '# mine' "$root/etc/academy-rt/academy-rt.toml"
check "it is installed again" in_root "$root" dpkg -i /tmp/academy-rt.deb
check "and starts with its old data" start "$root"
say "after the removal" > "$work/history" || true
check "all messages are there" is "$(paste -sd, "$work/history")" "before the upgrade,after the upgrade"
check "it stops once more" stop

check "it is purged" in_root "$root" dpkg -P academy-rt
check "data, secrets and configuration are gone" absent "$root/var/lib/academy-rt" "$root/etc/academy-rt" "$root/run/academy-rt" "$root/run/academy-rt-readers"
check "the user is gone" bash -c "! grep -E '^academy-rt(-readers)?:' '$root/etc/passwd' '$root/etc/group'"
check "no link of its units is left" bash -c "! find '$root/etc/systemd' '$root/var/lib/systemd' -name '*academy*' | grep ."
check "the backup stays" is "$(backups)" 1
check "and is root's" bash -c "! find '$root/var/lib/academy-rt-backups' ! -user root | grep ."
rm -r "$root/var/lib/academy-rt-backups"
check "it is installed a last time" in_root "$root" dpkg -i /tmp/academy-rt.deb
check "and purged" in_root "$root" dpkg -P academy-rt
check "without backups nothing at all is left" bash -c "! find '$root' -xdev -name '*academy*' ! -path '$root/tmp/*' ! -path '$root/proc/*' ! -path '$root/var/lib/dpkg/*' ! -path '$root/var/log/*' | grep ."
