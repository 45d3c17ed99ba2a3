# $1 is 1 at the first installation, more at an upgrade.
systemd-sysusers academy-rt.conf || exit 1
systemd-tmpfiles --create academy-rt.conf || exit 1
units="academy-rt.socket academy-rt.service academy-rt-backup.timer"
if [ "$1" -eq 1 ]; then
  systemctl --no-reload preset $units >/dev/null 2>&1 || :
elif systemctl --quiet is-enabled academy-rt-backup.timer 2>/dev/null; then
  # Links that this version has more than the one before.
  systemctl --no-reload enable academy-rt-backup.timer >/dev/null 2>&1 || :
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload >/dev/null 2>&1 || :
  failed=
  if [ "$1" -eq 1 ]; then
    # Only what the presets of this machine have enabled.
    for unit in $units; do
      if systemctl --quiet is-enabled "$unit" 2>/dev/null; then
        systemctl start "$unit" >/dev/null 2>&1 || failed=yes
      fi
    done
  else
    # The socket stays open meanwhile: nobody is refused.
    systemctl try-restart academy-rt.service >/dev/null 2>&1 || failed=yes
  fi
  if [ -n "$failed" ]; then
    echo "academy-rt is installed, and did not start. Why: journalctl -u academy-rt.service -u academy-rt.socket" >&2
  fi
fi
exit 0
