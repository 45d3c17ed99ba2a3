//! What the user of the service can reach: root sees everything, and so what root finds good may be closed to the service.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use crate::archive::key;
use crate::auth::sources;
use crate::config::acting_as::groups_of;
use crate::config::{Config, TlsMode, drop_ins};
use crate::domain::problem::Problem;
use crate::store::embedded::NAME;

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;

/// The unit of the packages.
const UNIT: &str = "academy-rt.service";
/// Where the unit keeps its data, whatever its configuration says.
const STATE: &str = "/var/lib/academy-rt";

/// A user with its groups.
#[derive(Debug)]
struct User {
    uid: u32,
    groups: Vec<u32>,
    /// How it is known that the service is this user's, behind "user N, ".
    known_by: &'static str,
}

impl User {
    /// Whose server it is that the configuration is for, if root asks and it is not root's: the user that the unit names, where it is
    /// the unit's configuration; else the owner of the data directory.
    fn of_service(config: &Config) -> Option<User> {
        if !geteuid().is_root() {
            return None;
        }
        let user = match is_the_units(config).then(unit_user).flatten() {
            Some(uid) => {
                User { uid, groups: groups_of(uid), known_by: "who runs the service (User= of academy-rt.service)" }
            }
            None => {
                let owner = fs::metadata(&config.storage.data_dir).ok()?;
                let mut groups = groups_of(owner.uid());
                groups.push(owner.gid());
                User { uid: owner.uid(), groups, known_by: "who owns the data directory" }
            }
        };
        Some(user).filter(|user| user.uid != 0)
    }

    fn may(&self, path: &Path, wants: u32) -> bool {
        let Ok(found) = fs::metadata(path) else { return true };
        let mode = found.mode();
        let bits = if found.uid() == self.uid {
            mode >> 6
        } else if self.groups.contains(&found.gid()) {
            mode >> 3
        } else {
            mode
        };
        bits & wants == wants
    }

    /// The first place on the way to a path that is closed to the user.
    fn closed(&self, path: &Path, wants: u32) -> Option<PathBuf> {
        let real = fs::canonicalize(path).ok()?;
        let mut above: Vec<&Path> = real.ancestors().skip(1).collect();
        above.reverse();
        let way = above.into_iter().map(|place| (place, SEARCH)).chain([(real.as_path(), wants)]);
        way.into_iter().find(|(place, wants)| !self.may(place, *wants)).map(|(place, _)| place.to_owned())
    }
}

/// Whether a configuration is that of the service of this machine, and not of a server that somebody runs by hand.
fn is_the_units(config: &Config) -> bool {
    let services = Config::default_file().parent();
    config.files.iter().any(|path| services.is_some_and(|dir| path.starts_with(dir)))
        || config.storage.data_dir.starts_with(STATE)
}

/// The user of the unit, where systemd runs and has it.
fn unit_user() -> Option<u32> {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let shown = said("systemctl", &["show", UNIT, "--property=LoadState,User"])?;
    let value = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    if value("LoadState") != Some("loaded") {
        return None;
    }
    match value("User").unwrap_or_default() {
        "" => Some(0),
        name => said("id", &["-u", name])?.trim().parse().ok(),
    }
}

/// What the configuration names and the user of the service cannot use. Empty for any user but root: what they cannot use
/// themselves is found where it is read.
pub(super) fn closed_to_service(config: &Config) -> Vec<Problem> {
    let Some(user) = User::of_service(config) else { return Vec::new() };
    let data_dir = &config.storage.data_dir;
    let mut places: Vec<(PathBuf, u32)> = vec![
        (data_dir.clone(), READ | WRITE | SEARCH),
        (data_dir.join(NAME), READ | WRITE),
        (data_dir.join(key::FILE), READ),
    ];
    // Also what the configuration itself is: the server that cannot read it does not start.
    places.extend(config.files.iter().map(|path| (path.clone(), READ)));
    let listed = config.files.iter().filter_map(|path| path.parent()).filter(|dir| dir.ends_with(drop_ins::DIR));
    places.extend(listed.map(|dir| (dir.to_owned(), READ | SEARCH)));
    // A credential is read by systemd.
    let is_credential = |path: &Path| config.credentials_dir.as_ref().is_some_and(|dir| path.starts_with(dir));
    places.extend(sources::files(config, config.credentials_dir.as_deref()).into_iter().map(|path| (path, READ)));
    let own = config.self_signed_cert();
    let tls = match config.tls.mode {
        TlsMode::Off => Vec::new(),
        TlsMode::Files => vec![config.tls.cert.clone(), config.tls.key.clone()],
        TlsMode::SelfSigned => vec![Some(own.with_file_name("key.pem")), Some(own)],
    };
    places.extend(
        tls.into_iter()
            .chain([config.tls.client_ca.clone(), config.tls.client_crl.clone()])
            .flatten()
            .map(|path| (path, READ)),
    );
    let mut problems: Vec<Problem> = Vec::new();
    for (path, wants) in places {
        if is_credential(&path) {
            continue;
        }
        let Some(place) = user.closed(&path, wants) else { continue };
        let verb = if wants & WRITE == 0 { "read" } else { "read and write" };
        let problem = Problem::new(
            format!("the user of the service cannot {verb} {}", path.display()),
            format!("{} is closed to user {}, {}", place.display(), user.uid, user.known_by),
            remedy(&place, data_dir, &user),
        );
        if !problems.iter().any(|other| other.why == problem.why) {
            problems.push(problem);
        }
    }
    problems
}

fn remedy(place: &Path, data_dir: &Path, user: &User) -> String {
    let data_dir = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let shown = place.display();
    if place.starts_with(&data_dir) {
        let private = if place.file_name() == Some(OsStr::new("tls")) || place == data_dir { "u+rwx" } else { "u+rw" };
        return format!("Run: chown {} {shown}; chmod {private} {shown}.", user.uid);
    }
    let group = user.groups.first().copied().unwrap_or(user.uid);
    let right = match (place.is_dir(), place.ends_with(drop_ins::DIR)) {
        (true, true) => "g+rx",
        (true, false) => "g+x",
        (false, _) => "g+r",
    };
    format!("Run: chgrp {group} {shown}; chmod {right} {shown}.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn what_root_can_read_and_the_services_user_cannot_is_found() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let mut config = Config::default();
        config.storage.data_dir = dir.path().join("data");
        config.auth.jwt_secret_file = Some(dir.path().join("secret"));
        fs::create_dir(&config.storage.data_dir).unwrap();
        let file = config.storage.data_dir.join(NAME);
        fs::write(&file, "x").unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        let set = |path: &Path, mode, user| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            chown(path, Some(user), Some(user)).unwrap();
        };
        set(&config.storage.data_dir, 0o700, 4_711);
        set(&file, 0o600, 4_711);
        set(&dir.path().join("secret"), 0o600, 4_711);
        assert!(closed_to_service(&config).is_empty(), "{:?}", closed_to_service(&config));
        set(&file, 0o600, 0);
        set(&dir.path().join("secret"), 0o600, 0);
        let found = closed_to_service(&config);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].what.contains("academy.redb") && found[0].remedy.contains("chown 4711"), "{found:?}");
        assert!(found[1].what.contains("secret") && found[1].remedy.contains("chgrp"), "{found:?}");
        set(&dir.path().join("secret"), 0o640, 0);
        chown(dir.path().join("secret"), None, Some(4_711)).unwrap();
        set(&file, 0o600, 4_711);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let found = closed_to_service(&config);
        assert!(found.len() == 1 && found[0].remedy.contains("g+x"), "{found:?}");
    }
}
