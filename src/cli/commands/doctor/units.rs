//! The checks of `doctor` of the units in the packages: their state, the port that the socket opens, what the service may write
//! to, and the last error in the journal. Where there is no systemd, or no such unit, there is nothing to say.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::config::Config;

use crate::cli::commands::doctor::CheckResult;

const SERVICE: &str = "academy-rt.service";
const SOCKET: &str = "academy-rt.socket";
const TIMER: &str = "academy-rt-backup.timer";
const PROPERTIES: &str = "Id,LoadState,ActiveState,Result,UnitFileState,NeedDaemonReload,Listen,ReadWritePaths,StateDirectory,ProtectSystem,Environment";
/// The state of a socket in `/proc/net/tcp` that listens.
const LISTENS: &str = "0A";
/// What begins a service that the socket has kept from its port.
const RESTART: &str =
    "systemctl stop academy-rt.service; systemctl enable --now academy-rt.socket; systemctl start academy-rt.service";

/// The properties of a unit.
type Unit = HashMap<String, String>;

/// The service and what belongs to it; empty where this machine has no such service.
pub(super) struct Units {
    service: Unit,
    socket: Unit,
    timer: Unit,
}

fn is(unit: &Unit, name: &str, value: &str) -> bool {
    unit.get(name).is_some_and(|found| found == value)
}

impl Units {
    /// Asks systemd; `None` where the service is no unit of this machine.
    pub(super) fn ask() -> Option<Units> {
        let mut asked = Command::new("systemctl");
        let output = asked.args(["show", "--property", PROPERTIES, SERVICE, SOCKET, TIMER]).output().ok()?;
        Units::read(&String::from_utf8_lossy(&output.stdout))
    }

    fn read(text: &str) -> Option<Units> {
        let mut units: HashMap<String, Unit> = HashMap::new();
        for block in text.split("\n\n") {
            let lines = block.lines().filter_map(|line| line.split_once('='));
            let unit: Unit = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            if let Some(id) = unit.get("Id") {
                units.insert(id.clone(), unit);
            }
        }
        let service = units.remove(SERVICE).filter(|unit| is(unit, "LoadState", "loaded"))?;
        let mut other = |name: &str| units.remove(name).unwrap_or_default();
        Some(Units { service, socket: other(SOCKET), timer: other(TIMER) })
    }

    fn is_active(&self) -> bool {
        ["active", "reloading"].iter().any(|state| is(&self.service, "ActiveState", state))
    }

    /// The state of the units, against what the running server says of itself.
    pub(super) fn look(&self, config: &Config, status: Option<&Value>) -> Vec<CheckResult> {
        let mut results = vec![self.service()];
        if is(&self.service, "NeedDaemonReload", "yes") {
            let remedy = "Run: systemctl daemon-reload; then restart the service.";
            results.push(CheckResult::warning("service", "its unit has changed on disk", remedy));
        }
        results.extend(self.port(status));
        results.extend(self.writable(config));
        results.extend(self.nightly());
        results.extend(last_error());
        results
    }

    fn service(&self) -> CheckResult {
        let state = self.service.get("ActiveState").map_or("", String::as_str);
        let will_start = is(&self.service, "UnitFileState", "enabled");
        match state {
            "failed" => {
                let result = self.service.get("Result").map_or("", String::as_str);
                let remedy = "Read why (journalctl -u academy-rt -n 50), then: systemctl restart academy-rt.";
                CheckResult::problem("service", format!("{SERVICE} has failed ({result})"), remedy)
            }
            "active" | "reloading" if !will_start => {
                let what = format!("{SERVICE} is active, but does not start with the machine");
                CheckResult::warning("service", what, "Run: systemctl enable academy-rt.")
            }
            "active" | "reloading" => CheckResult::good("service", format!("{SERVICE} is {state}")),
            "activating" => {
                let remedy = "Read why it does not start: journalctl -u academy-rt -n 50.";
                CheckResult::problem("service", format!("{SERVICE} is starting, or tries again and again"), remedy)
            }
            other => {
                let remedy = "Run: systemctl enable --now academy-rt.";
                CheckResult::problem("service", format!("{SERVICE} is {other}"), remedy)
            }
        }
    }

    /// Clients come to the port of the socket: a service that listens elsewhere is well, and reached by nobody.
    fn port(&self, status: Option<&Value>) -> Option<CheckResult> {
        let is_used = is(&self.socket, "LoadState", "loaded") && !is(&self.socket, "UnitFileState", "disabled");
        if !is_used {
            return None;
        }
        let ports = ports(self.socket.get("Listen").map_or("", String::as_str));
        let shown = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        if !is(&self.socket, "ActiveState", "active") {
            let holder = ports.iter().find_map(|port| holder(*port));
            let what = match holder {
                Some(who) => format!("{SOCKET} is not active: {who} listens on port {shown}"),
                None => format!("{SOCKET} is not active, and nothing listens on port {shown}"),
            };
            let remedy =
                format!("Stop what else listens there, if it is another program (ss -ltnp). Then run: {RESTART}.");
            return Some(CheckResult::problem("port", what, remedy));
        }
        let listening: Vec<u16> = addresses(status).iter().map(SocketAddr::port).collect();
        if self.is_active() && !listening.is_empty() && !ports.iter().any(|port| listening.contains(port)) {
            let at = addresses(status).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let what =
                format!("{SOCKET} has port {shown}, but the server listens on {at}: it was started without the socket");
            return Some(CheckResult::problem("port", what, format!("Run: {RESTART}.")));
        }
        Some(CheckResult::good("port", format!("{SOCKET} has port {shown}")))
    }

    /// In its sandbox the service writes only where its unit permits it.
    fn writable(&self, config: &Config) -> Option<CheckResult> {
        if !is(&self.service, "ProtectSystem", "strict") {
            return None;
        }
        let words = |name: &str| self.service.get(name).map_or("", String::as_str).split_whitespace();
        let states = words("StateDirectory").map(|name| Path::new("/var/lib").join(name));
        let paths = words("ReadWritePaths").map(|path| PathBuf::from(path.trim_start_matches(['-', '+'])));
        let dir = fs::canonicalize(&config.storage.data_dir).unwrap_or_else(|_| config.storage.data_dir.clone());
        if states.chain(paths).any(|path| dir.starts_with(fs::canonicalize(&path).unwrap_or(path))) {
            return None;
        }
        let what = format!("{SERVICE} may not write to the data directory {}", dir.display());
        let remedy = format!(
            "Run systemctl edit academy-rt, add [Service] and ReadWritePaths={}, then: systemctl restart academy-rt.",
            dir.display()
        );
        Some(CheckResult::problem("service", what, remedy))
    }

    fn nightly(&self) -> Option<CheckResult> {
        let is_there = is(&self.timer, "LoadState", "loaded");
        (is_there && !is(&self.timer, "ActiveState", "active")).then(|| {
            let remedy = "Run: systemctl enable --now academy-rt-backup.timer.";
            CheckResult::warning("backup", format!("{TIMER} is not active: no backup is made at night"), remedy)
        })
    }
}

/// The addresses that the running server listens on.
fn addresses(status: Option<&Value>) -> Vec<SocketAddr> {
    let list = status.and_then(|status| status.get("addresses")).and_then(Value::as_array);
    let address = |value: &Value| value.as_str()?.split_once("://")?.1.parse().ok();
    list.into_iter().flatten().filter_map(address).collect()
}

/// The ports in `[::]:443 (Stream)`.
fn ports(listen: &str) -> Vec<u16> {
    let words = listen.split_whitespace().filter(|word| !word.starts_with('('));
    words.filter_map(|word| word.rsplit(':').next()?.parse().ok()).collect()
}

/// Who listens on a port, as far as this user may know.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listener(table, port))?;
    let name = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
    let holds = |process: &fs::DirEntry| {
        let links = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        links.filter_map(|link| fs::read_link(link.path()).ok()).any(|target| target.as_os_str() == name.as_str())
    };
    let program = processes.into_iter().find(holds).and_then(|process| {
        let program = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(format!("{} (process {})", program.trim(), process.file_name().to_string_lossy()))
    });
    Some(program.unwrap_or_else(|| "another program".to_owned()))
}

/// The inode of the socket that listens on a port, in a table of `/proc/net/tcp`.
fn listener(table: &str, port: u16) -> Option<String> {
    let end = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1)?.ends_with(&end) && *words.get(3)? == LISTENS;
        is_it.then(|| words.get(9).map(|inode| (*inode).to_owned()))?
    })
}

/// The last error of a day.
fn last_error() -> Option<CheckResult> {
    let args = ["-u", SERVICE, "-p", "err", "-n", "1", "-o", "short-iso", "--no-pager", "-q", "--since", "-1d"];
    let output = Command::new("journalctl").args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last()?.trim().to_owned();
    (!line.is_empty()).then(|| {
        let remedy = "See what was before it: journalctl -u academy-rt -p warning -n 50.";
        CheckResult::warning("journal", format!("the last error of this day: {line}"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::Level;
    use serde_json::json;

    fn units(service: &str, socket: &str) -> Units {
        let text = format!(
            "Id={SERVICE}\nLoadState=loaded\nUnitFileState=enabled\nProtectSystem=strict\nStateDirectory=academy-rt\n{service}\n\n\
             Id={SOCKET}\nLoadState=loaded\nUnitFileState=enabled\nListen=[::]:443 (Stream)\n{socket}\n\nId={TIMER}\nLoadState=loaded\nActiveState=inactive"
        );
        Units::read(&text).unwrap()
    }

    #[test]
    fn a_service_that_nobody_reaches_is_a_problem() {
        let at = |address: &str| json!({ "addresses": [address] });
        let good = units("ActiveState=active", "ActiveState=active");
        assert_eq!(good.service().level, Level::Good);
        assert_eq!(good.port(Some(&at("https://[::]:443"))).unwrap().level, Level::Good);
        let elsewhere = good.port(Some(&at("https://127.0.0.1:8443"))).unwrap();
        assert!(elsewhere.level == Level::Problem && elsewhere.what.contains("127.0.0.1:8443"), "{elsewhere:?}");
        let closed =
            units("ActiveState=active", "ActiveState=failed").port(Some(&at("https://127.0.0.1:8443"))).unwrap();
        assert!(
            closed.level == Level::Problem
                && closed.remedy.unwrap().contains("systemctl enable --now academy-rt.socket")
        );
        let failed = units("ActiveState=failed\nResult=watchdog", "ActiveState=active").service();
        assert!(failed.level == Level::Problem && failed.what.contains("watchdog"));
        assert_eq!(good.nightly().unwrap().level, Level::Warning);
        assert!(Units::read("Id=academy-rt.service\nLoadState=not-found").is_none());
    }

    #[test]
    fn a_data_directory_outside_the_sandbox_is_a_problem() {
        let mut config = Config::default();
        config.storage.data_dir = "/var/lib/academy-rt".into();
        let unit = |paths: &str| units(&format!("ActiveState=active\nReadWritePaths={paths}"), "");
        assert!(unit("").writable(&config).is_none());
        config.storage.data_dir = "/srv/academy/data".into();
        let found = unit("/srv/other").writable(&config).unwrap();
        assert!(found.remedy.unwrap().contains("ReadWritePaths=/srv/academy/data"));
        assert!(unit("-/srv/other /srv/academy").writable(&config).is_none());
    }

    #[test]
    fn who_listens_on_a_port_is_found() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holder(listening.local_addr().unwrap().port()).unwrap();
        assert!(found.contains(&format!("process {}", std::process::id())), "{found}");
        assert_eq!(ports("[::]:443 (Stream) 0.0.0.0:8443 (Stream)"), [443, 8443]);
    }
}
