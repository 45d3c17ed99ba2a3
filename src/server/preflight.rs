//! Checks whether a server can start with a configuration, without starting it. The checks create and change nothing.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::archive::backup::Recipients;
use crate::auth::sources::{self, LoadedKeys};
use crate::config::Config;
use crate::config::trusted_file::Trust;
use crate::domain::Timestamp;

use crate::domain::problem::Problem;
use crate::server::tls::Material;
use crate::server::{addresses, audit_forward, platform, service_user, tls};

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// What prevents the start.
    pub problems: Vec<Problem>,
    /// What does not prevent the start, but should be fixed.
    pub warnings: Vec<String>,
    /// The certificate, if there is one already.
    pub tls: Option<Material>,
    /// The keys, if there are any already.
    pub keys: Option<LoadedKeys>,
}

/// A clock behind the end of the calendar: no answer of HTTP could have its date.
///
/// # Errors
/// If that is what the clock of this machine says.
pub(super) fn refuse_clock(now: Timestamp) -> Result<(), Problem> {
    if now <= Timestamp::LAST {
        return Ok(());
    }
    Err(Problem::new(
        "the clock of this machine cannot be used",
        "it says a time later than the year 9999",
        "Set the clock, and enable time synchronization: systemctl enable --now systemd-timesyncd, or chrony.",
    ))
}

/// Looks at everything that a configuration names: addresses, certificate, keys, data directory.
#[must_use]
pub fn check(config: &Config, now: Timestamp) -> Checked {
    let mut checked = Checked { warnings: config.warnings(), ..Checked::default() };
    checked.problems.extend(refuse_clock(now).err());
    checked.problems.extend(addresses::refuse_plain_http_outside(config, config.server.listen).err());
    match tls::load_existing(config, now) {
        Ok(material) => {
            checked.warnings.extend(material.iter().flat_map(|material| material.warnings.iter().cloned()));
            checked.tls = material;
        }
        Err(error) => checked.problems.push(error),
    }
    match sources::load(config, config.credentials_dir.as_deref()) {
        Ok(keys) => {
            checked.warnings.extend(keys.warnings.iter().cloned());
            checked.keys = Some(keys);
        }
        // The first start creates a secret.
        Err(error) if error.is_absent => {}
        Err(error) => checked.problems.push(error.into()),
    }
    let data_dir = &config.storage.data_dir;
    checked.problems.extend(addresses::refuse_untrusted_dir(data_dir, &Trust::of_server(data_dir)).err());
    checked.problems.extend(directory(data_dir).err());
    checked.problems.extend(service_user::closed_to_service(config));
    checked.problems.extend(Recipients::parse(&config.backup.continuous_recipients).err());
    checked.problems.extend(audit_forward::refuse_unusable(&config.audit).err());
    checked.problems.extend(platform::refuse_unusable(config).err());
    checked.warnings.extend(config.backup.continuous.as_deref().and_then(absent));
    checked
}

/// What to warn of where the continuous backup goes. The server starts without it, and goes on when it is there.
fn absent(dir: &Path) -> Option<String> {
    let is_usable = dir.is_dir() && access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (!is_usable).then(|| {
        format!("the directory {} of backup.continuous is not there, or cannot be written: there is no continuous backup until it is", dir.display())
    })
}

/// Whether the server can listen on its address. Only for a server that is not running.
///
/// # Errors
/// Why not.
pub fn address(config: &Config) -> Result<(), Problem> {
    let address = config.server.listen;
    TcpListener::bind(address).map(drop).map_err(|error| addresses::refused(address, &error))
}

/// Whether the data directory can be used, or made.
fn directory(path: &Path) -> Result<(), Problem> {
    let failed = |why: String| {
        let what = format!("the data directory {} cannot be used", path.display());
        Problem::new(
            what,
            why,
            "Use another directory with --data-dir, or make this one writable for the user of the server.",
        )
    };
    let is_writable = |path: &Path| access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK);
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => Err(failed("it is not a directory".to_owned())),
        Ok(_) => is_writable(path).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // It is made at the first start: in the nearest directory that is there.
            let parent = path.ancestors().skip(1).find(|parent| parent.exists()).unwrap_or(Path::new("."));
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            is_writable(parent).map_err(|error| failed(format!("it does not exist, and {}: {error}", parent.display())))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}
