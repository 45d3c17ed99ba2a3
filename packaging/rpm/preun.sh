# $1 is 0 when it is removed; at an upgrade it runs on, and the new package restarts it.
if [ "$1" -eq 0 ]; then
  units="academy-rt.socket academy-rt-backup.timer academy-rt.service"
  systemctl --no-reload disable $units >/dev/null 2>&1 || :
  if [ -d /run/systemd/system ]; then
    systemctl stop $units academy-rt-backup.service >/dev/null 2>&1 || :
  fi
fi
exit 0
