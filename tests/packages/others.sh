# The .rpm, and the tarball on a machine with no C library at all. Sourced by tests/packages/run.

# The scriptlets need a shell and systemd's tools; that the rest is a Debian does not matter to them.
root=$work/rpm
debian rpm
token() { in_root "$root" academy-rt token issue --user 7 --name Ann --role learner | tail -1; }
of_rpm() { rpm --root "$root" --nodeps "$@"; }
owner_of() { in_root "$root" stat -c '%a %U:%G' "$1"; }

check "the .rpm is installed" of_rpm -i "$rpm"
check "its files are as they were packed" rpm --root "$root" -V --nodeps academy-rt
check "its user is there" grep -q '^academy-rt:.*nologin$' "$root/etc/passwd"
for line in "/etc/academy-rt/tls 750 root:academy-rt" "/var/lib/academy-rt 700 academy-rt:academy-rt"; do
  check ".rpm: ${line%% *} is ${line#* }" is "$(owner_of "${line%% *}")" "${line#* }"
done
check ".rpm: the presets have enabled the socket, the service and the timer" test \
  -L "$root/etc/systemd/system/sockets.target.wants/academy-rt.socket" -a -L "$root/etc/systemd/system/multi-user.target.wants/academy-rt.service" \
  -a -L "$root/etc/systemd/system/timers.target.wants/academy-rt-backup.timer"
check ".rpm: the service starts as its user" start "$root"
check ".rpm: a message goes round" say "before the upgrade"
check ".rpm: it stops in order" stop
echo '# mine' >> "$root/etc/academy-rt/academy-rt.toml"
check ".rpm: a newer one is made" target/tools/bin/cargo-generate-rpm --auto-req disabled --set-metadata 'version = "99.0.0"' \
  --arch "$(rpm -qp --qf '%{ARCH}' "$rpm")" --output "$work/newer.rpm"
check ".rpm: it is upgraded" of_rpm -U "$work/newer.rpm"
check ".rpm: to the newer version" is "$(rpm --root "$root" -q --qf '%{VERSION}' academy-rt)" 99.0.0
check ".rpm: the configuration is the administrator's" is "$(tail -1 "$root/etc/academy-rt/academy-rt.toml")" "# mine"
check ".rpm: units stay enabled" test -L "$root/etc/systemd/system/sockets.target.wants/academy-rt.socket"
check ".rpm: the service starts again" start "$root"
say "after the upgrade" > "$work/history" || true
check ".rpm: the message of before is there" is "$(cat "$work/history")" "before the upgrade"
check ".rpm: it stops in order again" stop
check ".rpm: it is removed" of_rpm -e academy-rt
check ".rpm: the program is gone" absent "$root/usr/bin/academy-rt" "$root/etc/systemd/system/sockets.target.wants/academy-rt.socket"
check ".rpm: data and configuration stay" test -s "$root/var/lib/academy-rt/academy.redb" -a -e "$root/etc/academy-rt/academy-rt.toml.rpmsave"

# A root with the tarball, and nothing else: no C library, no shell, no /etc.
root=$work/empty
mkdir "$root"
tar -xzf "$tarball" -C "$root" --strip-components=1
program() { chroot "$root" /usr/bin/academy-rt "$@"; }
token() { program token issue --user 7 --name Ann --role learner --data-dir /data | tail -1; }
serve_alone() {
  port=$(free_port)
  url=https://127.0.0.1:$port
  cert=$root/data/tls/cert.pem
  env -i PATH="$PATH" ACADEMY_RT_STORAGE_MIN_FREE=0 chroot "$root" /usr/bin/academy-rt serve --listen "127.0.0.1:$port" --data-dir /data >"$work/serve.log" 2>&1 &
  service=$!
  started+=("$service")
  until_true ready || { cat "$work/serve.log"; return 1; }
}
check "nothing but the tarball is there" absent "$root/lib" "$root/lib64" "$root/usr/lib/x86_64-linux-gnu" "$root/bin"
check "the program runs without a C library" program --version
check "it serves" serve_alone
check "a message goes round without a C library" say "alone"
asks() { ACADEMY_RT_TOKEN=$(program token issue --user 1 --role admin --data-dir /data | tail -1) program status --url "https://$1:$port" --cacert /data/tls/cert.pem; }
check "a command reaches it by its address" asks 127.0.0.1
mkdir -p "$root/etc"
echo "127.0.0.1 $(hostname)" > "$root/etc/hosts"
check "and by a name of /etc/hosts" asks "$(hostname)"
# A module that /etc/nsswitch.conf names would be of another version of the C library than the one inside, and end the process.
echo "hosts: myhostname files" > "$root/etc/nsswitch.conf"
no_module() {
  program() { strace -f -qq -e trace=openat,open,execve -o "$work/opened" chroot "$root" /usr/bin/academy-rt "$@"; }
  asks "$(hostname)" && awk '/execve\("\/usr\/bin\/academy-rt"/ { on = 1 } on' "$work/opened" > "$work/own" &&
    grep -q /etc/hosts "$work/own" && ! grep -E 'nsswitch|libnss|libc\.so' "$work/own"
}
check "it looks names up without modules of the machine" no_module
unknown() { local said; said=$(asks no-such-host.invalid 2>&1) && return 1; echo "$said"; grep -q '^error: cannot connect to no-such-host.invalid' <<< "$said" && grep -q 'knows the name no-such-host.invalid' <<< "$said"; }
check "a name that is not known is said so" unknown
check "it stops in order without a C library" stop

root=$work/tarball
debian tarball
mkdir "$root/tmp/unpacked"
tar -xzf "$tarball" -C "$root/tmp/unpacked" --strip-components=1
token() { in_root "$root" academy-rt token issue --user 7 --name Ann --role learner | tail -1; }
check "install.sh installs" in_root "$root" /tmp/unpacked/install.sh
check "tarball: its user is there" grep -q '^academy-rt:.*nologin$' "$root/etc/passwd"
check "tarball: the service starts as its user" start "$root"
check "tarball: a message goes round" say "before the upgrade"
check "tarball: it stops in order" stop
echo '# mine' >> "$root/etc/academy-rt/academy-rt.toml"
check "install.sh upgrades" in_root "$root" /tmp/unpacked/install.sh
check "install.sh leaves the configuration" is "$(tail -1 "$root/etc/academy-rt/academy-rt.toml")" "# mine"
check "install.sh removes" in_root "$root" /tmp/unpacked/install.sh remove
check "tarball: the program is gone, the data stay" test ! -e "$root/usr/bin/academy-rt" -a -s "$root/var/lib/academy-rt/academy.redb"
refused() { local said; said=$(in_root "$root" /tmp/unpacked/install.sh instal 2>&1) && return 1; grep -q "there is no 'instal'" <<< "$said"; }
check "install.sh refuses what it does not know" refused
