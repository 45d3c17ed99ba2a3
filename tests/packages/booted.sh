# The .deb in a bare Debian 12 that is booted, with systemd 252: the units themselves, with their sandbox. Where this machine
# can boot no container it says so, and what is above has to do. Sourced by tests/packages/run.

root=$work/booted
debian booted
umount "$root/proc"
rm "$root/usr/sbin/policy-rc.d"

inside() { nsenter --target "$init" --mount --uts --ipc --net --pid --root --wd env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@" </dev/null; }
# Programs of this machine in the network of the other.
beside() { nsenter --target "$init" --net "$@"; }
shown() { inside systemctl show --property "$1" --value "${2:-academy-rt.service}"; }
boots() {
  systemd-nspawn --quiet --register=no --keep-unit --directory "$root" --private-network --console=pipe --boot \
    </dev/null >"$work/boot.log" 2>&1 &
  nspawn=$!
  started+=("$nspawn")
  local deadline=$((SECONDS + 60))
  while [ "$SECONDS" -lt "$deadline" ] && kill -0 "$nspawn" 2>/dev/null; do
    init=$(pgrep --parent "$nspawn" --oldest || true)
    # "degraded" is booted, too, and has a status of its own.
    case $([ -n "$init" ] && inside systemctl is-system-running 2>/dev/null || true) in running | degraded) return ;; esac
    sleep 0.2
  done
  return 1
}

url=https://localhost
cert=$root/var/lib/academy-rt/tls/cert.pem
token() { inside academy-rt token issue --user 7 --name Ann --role learner | tail -1; }
say() { beside node tests/clients/round-trip.mjs say "$url" "$cert" "$(token)" "$1"; }
ready() { beside curl --silent --fail --cacert "$cert" "$url/readyz"; }
active() { for unit; do is "$(shown ActiveState "$unit")" active || return 1; done; }
process() { sed -n "s/^$1:\t//p" "$root.status"; }
sandboxed() {
  inside cat "/proc/$(shown MainPID)/status" > "$root.status"
  is "$(process CapBnd)$(process CapEff)" 00000000000000000000000000000000 && is "$(process NoNewPrivs)" 1 && is "$(process Seccomp)" 2 &&
    is "$(process Uid | cut -f1)" "$(inside id -u academy-rt)" && [ "$(process Uid | cut -f1)" -ne 0 ]
}
# knocking COMMAND...: nobody who connects while it runs is refused, cut off, or left without an answer.
knocking() {
  local status=0
  # Not by the function: the signal is for node.
  nsenter --target "$init" --net node tests/clients/round-trip.mjs knock "$url" "$cert" >"$work/knock" 2>&1 &
  local knocker=$!
  started+=("$knocker")
  until_true grep -q knocking "$work/knock" || { cat "$work/knock"; return 1; }
  "$@" || status=1
  kill -TERM "$knocker"
  wait "$knocker" || status=1
  cat "$work/knock"
  return $status
}
restarts() { local before; for _ in 1 2 3; do before=$(shown MainPID); inside systemctl restart academy-rt.service || return 1; [ "$(shown MainPID)" != "$before" ] || return 1; done; }
reloads() { local before; before=$(shown MainPID); inside systemctl reload academy-rt.service && is "$(shown MainPID)" "$before" && active academy-rt.service; }
fails_aloud() {
  local file=$root/etc/academy-rt/academy-rt.toml status=0
  cp -p "$file" "$work/good.toml"
  echo typo >> "$file"
  ! inside systemctl reload academy-rt.service && active academy-rt.service && inside academy-rt status || status=1
  cat "$work/good.toml" > "$file"
  inside systemctl reload academy-rt.service || status=1
  return $status
}
upgrades() { local before; before=$(shown MainPID); inside dpkg -i /root/next.deb && [ "$(shown MainPID)" != "$before" ] && is "$(inside dpkg-query -W -f '${Version}' academy-rt)" "$newer"; }
# drop_in LINES: for the service, instead of the last one.
drop_in() {
  mkdir -p "$root/etc/systemd/system/academy-rt.service.d"
  printf '[Service]\n%s\n' "$1" > "$root/etc/systemd/system/academy-rt.service.d/test.conf"
  inside systemctl daemon-reload
  inside systemctl restart academy-rt.service
}
fed() { local before; before=$(shown WatchdogTimestampMonotonic); [ "$before" -gt 0 ] && until_true differs "$before"; }
differs() { [ "$(shown WatchdogTimestampMonotonic)" != "$1" ]; }
hangs() { local before; before=$(shown MainPID); inside sh -c "kill -STOP $before" && until_true another "$before" && until_true ready && is "$(shown Result)" success; }
another() { local now; now=$(shown MainPID); [ "$now" != 0 ] && [ "$now" != "$1" ]; }
dies() { local before; before=$(shown MainPID); inside sh -c "kill -KILL $before" && say "$1" && [ "$(shown MainPID)" != "$before" ]; }
by_credential() {
  secret=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
  mkdir -p "$root/etc/credstore"
  (umask 077; echo "$secret" > "$root/etc/credstore/academy-rt.jwt_secret")
  inside systemctl restart academy-rt.service || return 1
  # The secret in the data directory signs nothing any more.
  ! say "with the old secret" || return 1
  token() { inside env JWT_SECRET="$secret" academy-rt token issue --user 7 --name Ann --role learner | tail -1; }
  say "with the credential"
}
starts_all() { inside systemctl start academy-rt.service && active academy-rt.socket academy-rt.service academy-rt-backup.timer; }
leaves_disabled() {
  local status=0
  inside systemctl disable --now academy-rt-backup.timer && inside systemctl restart academy-rt.service || return 1
  is "$(shown ActiveState academy-rt-backup.timer)" inactive || status=1
  inside systemctl enable --now academy-rt-backup.timer && return $status
}
backs_up() { local before; before=$(backups_of); inside systemctl start academy-rt-backup.service && [ "$(backups_of)" -eq $((before + 1)) ]; }
backups_of() { find "$root/var/lib/academy-rt-backups" -type f | wc -l; }
listens_itself() {
  inside systemctl stop academy-rt.service academy-rt.socket && inside systemctl mask academy-rt.socket && inside systemctl start academy-rt.service &&
    beside curl --silent --fail --cacert "$cert" https://localhost:8443/readyz && inside systemctl stop academy-rt.service &&
    inside systemctl unmask academy-rt.socket && inside systemctl start academy-rt.service && active academy-rt.socket
}

# An operator of the readers' group looks and changes nothing; somebody of neither group does not even look.
as_user() { inside setpriv --reuid="$1" --regid="$1" --init-groups "${@:2}"; }
reads_alone() {
  inside useradd --no-create-home --groups academy-rt-readers watcher && inside useradd --no-create-home stranger || return 1
  is "$(inside stat -c '%a %U:%G' /run/academy-rt-readers/readers.sock)" "660 academy-rt:academy-rt-readers" || return 1
  for words in status "user list" "user diagnose 7" "audit list"; do as_user watcher academy-rt $words || return 1; done
  # What it finds of this machine is another question.
  as_user watcher academy-rt doctor >"$work/reads" 2>&1 || true
  grep -q 'this account may only read' "$work/reads" && grep -q 'is running' "$work/reads" || { cat "$work/reads"; return 1; }
  ! as_user watcher academy-rt user block 7 --reason none >"$work/reads" 2>&1 || return 1
  grep -q 'this account may only read' "$work/reads" || { cat "$work/reads"; return 1; }
  ! as_user watcher academy-rt history lobby && ! as_user stranger academy-rt status
}

# forwards TARGET COMMAND...: the audit log goes to the target, and what the command prints of it there has each record that an
# export has. An export is a record itself, so that each has a new one.
forwards() {
  local target=$1 status=0
  shift
  printf '[audit]\nforward = "%s"\n' "$target" > "$root/etc/academy-rt/conf.d/50-forward.toml"
  inside systemctl restart academy-rt.service && inside academy-rt audit export > "$work/exported" || status=1
  [ -s "$work/exported" ] && until_true has_each "$@" || { echo "not there: $missing"; inside academy-rt status; status=1; }
  rm "$root/etc/academy-rt/conf.d/50-forward.toml"
  inside systemctl restart academy-rt.service || status=1
  return $status
}
# Records alone, and none by its spelling: the order of fields is no part of JSON. An export also has where it begins and ends.
records() { python3 -c 'import json, sys
for line in sys.stdin:
    one = json.loads(line)
    if "number" in one: print(json.dumps(one, sort_keys=True))' | sort; }
has_each() {
  [ -n "$(records < "$work/exported")" ] || return 1
  missing=$(comm -23 <(records < "$work/exported") <(inside "$@" | records))
  [ -z "$missing" ]
}
forwards_to_a_log() {
  mkdir -p "$root/etc/systemd/system/academy-rt.service.d"
  printf '[Service]\nLogsDirectory=academy-rt\n' > "$root/etc/systemd/system/academy-rt.service.d/test.conf"
  inside systemctl daemon-reload
  local status=0
  forwards file:/var/log/academy-rt/audit.jsonl cat /var/log/academy-rt/audit.jsonl || status=1
  rm -r "$root/etc/systemd/system/academy-rt.service.d"
  inside systemctl daemon-reload
  return $status
}
told_where_it_may_not_write() {
  local status=0
  printf '[audit]\nforward = "file:/srv/audit.jsonl"\n' > "$root/etc/academy-rt/conf.d/50-forward.toml"
  inside systemctl restart academy-rt.service && until_true tells_of_srv && active academy-rt.service || status=1
  rm "$root/etc/academy-rt/conf.d/50-forward.toml"
  inside systemctl restart academy-rt.service || status=1
  return $status
}
tells_of_srv() { inside academy-rt status | grep -q '/srv/audit.jsonl'; }

nothing_refused() {
  local lines
  lines=$(inside journalctl --quiet --unit academy-rt --unit academy-rt-backup) && [ -n "$lines" ] || { echo "the journal has nothing"; return 1; }
  ! grep -i 'not permitted' <<< "$lines"
}
# As the shell's `!` does not: who could not look has not found that nothing is there.
running() { pgrep --ns "$init" --nslist pid --exact academy-rt; }
nothing_runs() { local status=0; running || status=$?; is "$status" 1; }
nobody_listens() { local status=0; beside curl --silent --insecure https://localhost/ || status=$?; is "$status" 7; }

if ! boots; then
  echo "# NOT RUN: this machine boots no container with systemd, so the units were not started by systemd here"
  tail -5 "$work/boot.log" | sed 's/^/#   /'
else
  cp "$deb" "$root/root/academy-rt.deb"
  check "booted: it is installed" inside dpkg -i /root/academy-rt.deb
  check "booted: socket, service and timer are active" active academy-rt.socket academy-rt.service academy-rt-backup.timer
  check "booted: it answers on port 443" until_true ready
  check "booted: without a capability, with its system calls filtered, as its user" sandboxed
  check "booted: a message goes round" say "first"
  name=$(inside cat /proc/sys/kernel/hostname)
  check "booted: its own certificate has the machine's name" beside curl --silent --fail --cacert "$cert" --resolve "$name:443:127.0.0.1" "https://$name/readyz"
  check "booted: an administrator sees it" inside academy-rt status
  check "booted: an operator of the readers' group looks and changes nothing" reads_alone
  check "booted: the score of the running service is 1.5 or better" inside systemd-analyze security --threshold=15 academy-rt.service
  check "booted: the journal has its lines, by its name" bash -c "[ -n \"\$(nsenter --target $init --mount --root --pid journalctl --quiet --unit academy-rt SYSLOG_IDENTIFIER=academy-rt)\" ]"
  check "booted: the audit log is forwarded to the journal" forwards journald: journalctl --quiet --output cat --identifier academy-rt-audit
  check "booted: the audit log is forwarded to a file of the service's" forwards file:/var/lib/academy-rt/audit.jsonl cat /var/lib/academy-rt/audit.jsonl
  check "booted: the audit log is forwarded to a file below /var/log" forwards_to_a_log
  check "booted: a file that the sandbox does not let it write is told" told_where_it_may_not_write
  check "booted: a reload keeps the process" reloads
  check "booted: a reload of a bad configuration fails aloud, and the server goes on" fails_aloud
  check "booted: nobody is refused in a reload" knocking reloads
  check "booted: nobody is refused in three restarts" knocking restarts
  check "booted: a backup is made of the running server" backs_up
  check "booted: who connects after a kill -9 is answered by the next process" dies "after a kill"
  drop_in $'WatchdogSec=1s\nTimeoutAbortSec=1s\nRestartSec=100ms'
  check "booted: the watchdog is fed" fed
  check "booted: a process that hangs is replaced" hangs
  rm -r "$root/etc/systemd/system/academy-rt.service.d"
  inside systemctl daemon-reload
  check "booted: the secret may be a credential" by_credential
  check "booted: a reload with a credential keeps the process" reloads
  check "booted: with the socket masked it listens on server.listen itself" listens_itself
  inside systemctl stop academy-rt.socket academy-rt.service
  check "booted: a backup is made without the server" backs_up
  inside systemctl start academy-rt.service
  cp "$work/debian/tmp/next.deb" "$root/root/next.deb"
  check "booted: nobody is refused in an upgrade" knocking upgrades
  say "after the upgrade" > "$work/history" || true
  check "booted: the messages of before are there" grep -qx first "$work/history"
  check "booted: no unit has failed" is "$(inside systemctl list-units --failed --plain --no-legend 'academy*')" ""
  check "booted: nothing was refused by the sandbox" nothing_refused
  inside systemctl stop academy-rt.socket academy-rt.service academy-rt-backup.timer
  check "booted: a start of the service brings the socket and the backup's timer" starts_all
  check "booted: a timer that is disabled stays so when the service starts" leaves_disabled
  check "booted: it is removed, and installed again" bash -c "nsenter --target $init --mount --uts --ipc --net --pid --root --wd sh -c 'dpkg -r academy-rt && dpkg -i /root/next.deb'"
  check "booted: and brings back socket, service and timer" active academy-rt.socket academy-rt.service academy-rt-backup.timer
  check "booted: it answers again" until_true ready
  inside systemctl disable --now academy-rt-backup.timer
  check "booted: what an administrator has disabled an upgrade leaves so" bash -c "nsenter --target $init --mount --uts --ipc --net --pid --root --wd sh -c 'dpkg -i /root/next.deb && ! systemctl --quiet is-enabled academy-rt-backup.timer'"
  check "booted: it runs until it is removed" until_true running
  check "booted: it is removed" inside dpkg -r academy-rt
  check "booted: nothing of it runs" nothing_runs
  check "booted: nobody listens" nobody_listens
  check "booted: it is purged" inside dpkg -P academy-rt
  kill -TERM "$nspawn"
  wait "$nspawn" 2>/dev/null || true
fi
