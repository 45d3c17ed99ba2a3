#!/bin/sh
# Installs academy-rt from its tarball: for a machine with systemd but neither dpkg nor rpm. Run it again with a newer tarball
# to upgrade. `install.sh remove` takes the program away and leaves configuration, data and backups.
# For a try without installing anything: ./usr/bin/academy-rt serve
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}
units="academy-rt.socket academy-rt.service academy-rt-backup.timer"
config=etc/academy-rt/academy-rt.toml
# Whether the systemd that runs is that of the place where this installs.
running=no
[ -z "$root" ] && [ -d /run/systemd/system ] && running=yes

fail() {
  echo "error: $1" >&2
  echo "  why: $2" >&2
  echo "  do:  $3" >&2
  exit 1
}

files() { (cd "$here" && find usr -type f); }

[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "academy-rt was not changed" "only root may" "Run it with sudo."

case ${1:-install} in
  install)
    [ -x "$here/usr/bin/academy-rt" ] || fail "nothing was installed" "$here/usr/bin/academy-rt is not there" "Unpack the whole tarball."
    "$here/usr/bin/academy-rt" --version >/dev/null 2>&1 ||
      fail "nothing was installed" "the program does not run here" "Use the tarball for a machine of the kind $(uname -m)."
    if [ "$running" = yes ]; then
      systemd=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
      [ "${systemd:-0}" -ge 252 ] ||
        fail "nothing was installed" "this systemd is ${systemd:-unknown}, and 252 is the oldest for these units" "Use Debian 12 or RHEL 9, or run academy-rt serve by other means."
    fi
    was_there=no
    [ -e "$root/usr/bin/academy-rt" ] && was_there=yes
    files | while IFS= read -r file; do
      mode=644
      [ "$file" = usr/bin/academy-rt ] && mode=755
      mkdir -p "$root/$(dirname "$file")"
      # A new file under the old name: the program that runs is not written into.
      cp "$here/$file" "$root/$file.new"
      chmod "$mode" "$root/$file.new"
      mv -f "$root/$file.new" "$root/$file"
    done
    mkdir -p "$root/etc/academy-rt"
    # A configuration that is there stays as it is.
    if [ ! -e "$root/$config" ] && [ ! -L "$root/$config" ]; then
      cp "$here/usr/share/academy-rt/academy-rt.toml" "$root/$config"
      chmod 644 "$root/$config"
    fi
    if command -v systemd-sysusers >/dev/null; then
      systemd-sysusers ${root:+--root="$root"} academy-rt.conf
      systemd-tmpfiles ${root:+--root="$root"} --create academy-rt.conf
    fi
    if [ "$running" = yes ]; then
      systemctl daemon-reload
      if [ "$was_there" = yes ]; then
        # Links that this version has more than the one before.
        systemctl --quiet is-enabled academy-rt-backup.timer 2>/dev/null && systemctl --quiet enable academy-rt-backup.timer || true
        # The socket stays open meanwhile: nobody is refused.
        systemctl try-restart academy-rt.service
      else
        systemctl --quiet enable --now $units
      fi
    fi
    echo "academy-rt is installed."
    ;;
  remove)
    if [ "$running" = yes ]; then
      systemctl --quiet disable --now academy-rt.socket academy-rt-backup.timer academy-rt.service || true
      systemctl --quiet stop academy-rt-backup.service 2>/dev/null || true
    fi
    files | while IFS= read -r file; do rm -f "$root/$file"; done
    for dir in doc/academy-rt/docs doc/academy-rt/platform doc/academy-rt academy-rt; do rmdir "$root/usr/share/$dir" 2>/dev/null || true; done
    [ "$running" = yes ] && systemctl daemon-reload
    echo "academy-rt is removed. Still there: /etc/academy-rt, /var/lib/academy-rt, /var/lib/academy-rt-backups, the user academy-rt, the group academy-rt-readers."
    ;;
  *)
    fail "nothing was done" "there is no '$1'" "install.sh, or install.sh remove."
    ;;
esac
