# Bare roots, and how the service is run in one as its unit says where no systemd runs. Sourced by tests/packages/run.

# A bare Debian is made once and copied. minbase and systemd: less is no Debian that a service runs on.
bare=target/bare-bookworm
if [ ! -e "$bare/.whole" ]; then
  rm -rf "$bare"
  echo "# making a bare Debian 12"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus bookworm "$bare" http://deb.debian.org/debian >"$work/debootstrap.log" 2>&1 ||
    { tail -20 "$work/debootstrap.log" >&2; exit 1; }
  umount -R "$bare/proc" "$bare/sys" 2>/dev/null || true
  rm -rf "$bare"/var/cache/apt/archives/*.deb "$bare/etc/machine-id"
  touch "$bare/.whole"
fi
debian() {
  cp -a --one-file-system "$bare" "$work/$1"
  mount -t proc proc "$work/$1/proc"
  # As in an image that is being built: nothing may be started.
  printf '#!/bin/sh\nexit 101\n' > "$work/$1/usr/sbin/policy-rc.d"
  chmod 755 "$work/$1/usr/sbin/policy-rc.d"
}
in_root() { local root=$1; shift; DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$root" "$@" </dev/null; }

of_unit() { sed -n "s/^$2=//p" "$1/usr/lib/systemd/system/academy-rt.service" | tail -1; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# start ROOT: the unit's program as its user, without a capability, and able to write only where the unit lets it.
start() {
  local root=$1 unit_user state runtime program
  unit_user=$(of_unit "$root" User) state=/var/lib/$(of_unit "$root" StateDirectory) runtime=/run/$(of_unit "$root" RuntimeDirectory)
  program=$(of_unit "$root" ExecStart)
  in_root "$root" install -d -o "$unit_user" -g "$(of_unit "$root" Group)" -m "$(of_unit "$root" RuntimeDirectoryMode)" "$runtime"
  port=$(free_port)
  url=https://127.0.0.1:$port
  cert=$root$state/tls/cert.pem
  # shellcheck disable=SC2016
  unshare --mount --propagation private bash -ec '
    root=$1; shift
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    for dir in "$1" "$2"; do mount --bind "$root$dir" "$root$dir"; mount -o remount,bind,rw "$root$dir"; done
    cd "$root"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin STATE_DIRECTORY="$1" RUNTIME_DIRECTORY="$2" ACADEMY_RT_SERVER_LISTEN="$3" \
      ACADEMY_RT_STORAGE_MIN_FREE=0 ${STRACE:+$STRACE} \
      chroot "$root" setpriv --reuid "$4" --regid "$5" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
      sh -ec "umask $6; cd $7; exec $8"
  ' start "$root" "$state" "$runtime" "127.0.0.1:$port" "$unit_user" "$(of_unit "$root" Group)" "$(of_unit "$root" UMask)" \
    "$(of_unit "$root" WorkingDirectory)" "$program" >"$work/serve.log" 2>&1 &
  service=$!
  started+=("$service")
  until_true ready || { cat "$work/serve.log"; return 1; }
}
ready() { [ -e "$cert" ] && curl --silent --fail --cacert "$cert" "$url/readyz"; }
stop() {
  local status=0
  kill -TERM "$service"
  wait "$service" || status=$?
  is "$status" 0
}
say() { node tests/clients/round-trip.mjs say "$url" "$cert" "$(token)" "$1"; }
