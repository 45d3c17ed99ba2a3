//! `init`: writes a configuration, a secret and a certificate for a new installation. It asks, or takes options. It never
//! overwrites a file, and removes its files if it fails.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::archive::moments::day;
use crate::auth::secret;
use crate::config::acting_as::Rights;
use crate::config::keys::annotated_file;
use crate::config::load::examine;
use crate::config::{Config, SourceFile, Sources};
use crate::domain::webhook::Endpoint;
use crate::domain::{Clock, SystemClock, host};
use crate::server::platform::secrets;
use crate::server::tls;
use crate::server::tls::self_signed;

use crate::cli::exit::{Exit, Failure};
use crate::cli::{Global, path_text};

/// Where the packages have the configuration.
const DIR: &str = "/etc/academy-rt";
/// The user that the packages create for the service.
const SERVICE_USER: &str = "academy-rt";

/// Write a configuration, a secret and a certificate for a new installation
///
/// The command asks a few questions; each can be answered with an option. It never overwrites a file.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Directory for the configuration and the secret [default: that of --config, else /etc/academy-rt]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Data directory of the server [default: /var/lib/academy-rt for root, else DIR/data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Host name or address that clients use, or *.DOMAIN; may be given several times [default: the host name of this machine]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Address and port to listen on [default: 0.0.0.0:443 for root, else 0.0.0.0:8443]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Origin of the web platform, such as https://portal.example.org; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// File with your own certificate chain in PEM, instead of a self-signed certificate
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with the private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve plain HTTP, because a proxy in front terminates TLS
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    behind_proxy: bool,
    /// URL of the web platform that is told what happens here (webhooks); the command also creates the secret
    #[arg(long, value_name = "URL")]
    webhook_url: Option<Endpoint>,
    /// Ask no questions; use the defaults for everything that no option sets
    #[arg(long)]
    non_interactive: bool,
}

/// The answers.
struct Answers {
    hosts: Vec<String>,
    listen: SocketAddr,
    own_pair: Option<(PathBuf, PathBuf)>,
    origins: Vec<String>,
}

/// Asks, checks and writes.
///
/// # Errors
/// If an answer is wrong, a file exists already, or a file cannot be written.
pub fn run(global: &Global, args: &InitArgs) -> anyhow::Result<Exit> {
    let is_root = rustix::process::geteuid().is_root();
    // Who names a configuration gets that one, and the secret beside it.
    let config = global.config.as_deref().map(absolute).transpose()?;
    let dir = match (&args.dir, config.as_deref().and_then(Path::parent)) {
        (Some(dir), _) => absolute(dir)?,
        (None, Some(beside)) => beside.to_owned(),
        (None, None) => PathBuf::from(DIR),
    };
    let data_dir = match &args.data_dir {
        Some(data_dir) => absolute(data_dir)?,
        None if is_root && dir.starts_with("/etc") => PathBuf::from("/var/lib/academy-rt"),
        None => dir.join("data"),
    };
    let places = Places::new(config, dir, &data_dir);
    places.refuse_existing(args)?;
    let answers = answers(args, is_root)?;
    let written = write(args, &places, &data_dir, &answers, is_root)?;
    let answer = json!({
        "config": places.config, "secret": places.secret,
        "certificate": written.certificate.as_ref().map(|(path, _)| path),
        "names": answers.hosts, "webhookSecrets": args.webhook_url.as_ref().map(|_| &places.hook_secrets),
    });
    global.print(&answer, || {
        let mut text = words(&places, &answers, &written);
        if args.webhook_url.is_some() {
            text.push_str(&format!(
                "\n\n{} signs webhooks: give the web platform its line, which begins with whsec_. Then try it with: academy-rt webhook test",
                places.hook_secrets.display()
            ));
        }
        text
    })?;
    Ok(Exit::Done)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    // The service starts in another directory, where a relative path would be another one.
    std::path::absolute(path).map_err(|error| {
        Failure::usage(format!("{} cannot be used", path.display()), error, "Use the path of a directory.")
    })
}

/// Where everything goes.
struct Places {
    config: PathBuf,
    secret: PathBuf,
    hook_secrets: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Places {
    fn new(config: Option<PathBuf>, dir: PathBuf, data_dir: &Path) -> Places {
        let tls = data_dir.join("tls");
        Places {
            config: config.unwrap_or_else(|| dir.join("academy-rt.toml")),
            secret: dir.join("jwt-secret"),
            hook_secrets: dir.join("webhook-secrets"),
            cert: tls.join("cert.pem"),
            key: tls.join("key.pem"),
        }
    }

    fn refuse_existing(&self, args: &InitArgs) -> Result<(), Failure> {
        let makes_pair = args.tls_cert.is_none() && !args.behind_proxy;
        let pair = if makes_pair { vec![&self.cert, &self.key] } else { Vec::new() };
        let hooks = args.webhook_url.as_ref().map(|_| &self.hook_secrets);
        for path in [&self.config, &self.secret].into_iter().chain(pair).chain(hooks) {
            if path.symlink_metadata().is_ok() {
                let remedy = "To keep it, edit it (the packages bring a configuration), and check it with: academy-rt config check. To begin anew, move it away first, or use another --dir or --data-dir.";
                return Err(Failure::new("nothing was written", format!("{} exists already", path.display()), remedy));
            }
        }
        Ok(())
    }
}

fn answers(args: &InitArgs, is_root: bool) -> Result<Answers, Failure> {
    let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !args.non_interactive && !has_terminal {
        let why = "standard input is not a terminal";
        return Err(Failure::usage(
            "cannot ask questions",
            why,
            "Add --non-interactive, and give your answers as options.",
        ));
    }
    let asks = !args.non_interactive;
    let hosts = if args.host.is_empty() {
        let default = self_signed::host_name().unwrap_or_else(|| "localhost".to_owned());
        ask(asks, "Host name that clients use for this server (separate several with spaces)", &default, |text| {
            text.split_whitespace().map(host::spelt).collect()
        })?
    } else {
        args.host.iter().map(|text| host::spelt(text)).collect::<Result<_, _>>().map_err(|why| wrong("--host", why))?
    };
    let port = if is_root { 443 } else { 8443 };
    let listen = match args.listen {
        Some(listen) => listen,
        None if args.behind_proxy => SocketAddr::from(([127, 0, 0, 1], 8443)),
        None => ask(asks, "Address and port to listen on", &format!("0.0.0.0:{port}"), |text| {
            text.parse().map_err(|_| "must be ADDRESS:PORT, for example 0.0.0.0:443 or [::]:443".to_owned())
        })?,
    };
    let own_pair = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some((absolute(cert)?, absolute(key)?)),
        _ if args.behind_proxy => None,
        _ => ask_pair(asks)?,
    };
    if let Some((cert, key)) = &own_pair {
        check_pair(cert, key).map_err(Failure::from)?;
    }
    let origins = if args.cors_origin.is_empty() {
        ask(asks, "Origin of the web platform, https://... (empty: the same as of this server)", "", |text| {
            text.split_whitespace().map(origin).collect()
        })?
    } else {
        args.cors_origin
            .iter()
            .map(|text| origin(text))
            .collect::<Result<_, _>>()
            .map_err(|why| wrong("--cors-origin", why))?
    };
    Ok(Answers { hosts, listen, own_pair, origins })
}

fn wrong(flag: &str, why: String) -> Failure {
    Failure::usage(format!("{flag} cannot be used"), why, "Correct the value.")
}

fn origin(text: &str) -> Result<String, String> {
    let sources =
        Sources { flags: vec![("server.cors_origins", "--cors-origin", text.to_owned())], ..Sources::default() };
    match examine(&sources).1.into_iter().next() {
        None => Ok(text.to_owned()),
        Some(_) => Err(format!("'{text}' is not an origin; write https://portal.example.org without a path")),
    }
}

fn check_pair(cert: &Path, key: &Path) -> Result<(), crate::domain::problem::Problem> {
    let mut config = Config::default();
    config.tls.mode = crate::config::TlsMode::Files;
    (config.tls.cert, config.tls.key) = (Some(cert.to_owned()), Some(key.to_owned()));
    tls::load_existing(&config, SystemClock.now()).map(drop)
}

/// Asks until the answer is good; without asking, the default is the answer.
fn ask<T>(asks: bool, question: &str, default: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
    if !asks {
        return read(default).map_err(|why| {
            Failure::usage(format!("{question}: there is no valid default"), why, "Give the value as an option.")
        });
    }
    let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    loop {
        let text = line(&format!("{question}{shown}: "))?;
        match read(if text.is_empty() { default } else { &text }) {
            Ok(answer) => return Ok(answer),
            Err(why) => show(&format!("  {why}\n"))?,
        }
    }
}

fn ask_pair(asks: bool) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    if !asks {
        return Ok(None);
    }
    loop {
        let cert = line("File with your own certificate in PEM (empty: create a self-signed one): ")?;
        if cert.is_empty() {
            return Ok(None);
        }
        let key = line("File with its private key in PEM: ")?;
        let (cert, key) = (absolute(Path::new(&cert))?, absolute(Path::new(&key))?);
        match check_pair(&cert, &key) {
            Ok(()) => return Ok(Some((cert, key))),
            Err(error) => show(&format!("  {error}\n"))?,
        }
    }
}

fn show(text: &str) -> Result<(), Failure> {
    let mut terminal = io::stdout().lock();
    terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()).map_err(no_terminal)
}

fn line(prompt: &str) -> Result<String, Failure> {
    show(prompt)?;
    let mut text = String::new();
    match io::stdin().lock().read_line(&mut text).map_err(no_terminal)? {
        0 => Err(Failure::new(
            "nothing was written",
            "standard input ended",
            "Run the command again, or use --non-interactive.",
        )),
        _ => Ok(text.trim().to_owned()),
    }
}

fn no_terminal(error: io::Error) -> Failure {
    Failure::new("nothing was written", error, "Run the command on a terminal, or use --non-interactive.")
}

/// What was written, for the answer.
struct Written {
    /// The new certificate, and its last day.
    certificate: Option<(PathBuf, String)>,
    /// Whether the files belong to the service's user.
    is_for_service: bool,
}

fn write(
    args: &InitArgs,
    places: &Places,
    data_dir: &Path,
    answers: &Answers,
    is_root: bool,
) -> anyhow::Result<Written> {
    let now = SystemClock.now();
    let text = config_text(args, places, data_dir, answers)?;
    let service = if is_root { user_of("/etc/passwd", SERVICE_USER) } else { None };
    let secret =
        secret::random().map_err(|error| Failure::new("the secret cannot be created", error, "Check /dev/urandom."))?;
    let mut files = vec![
        // The service reads the configuration, but must not change it.
        NewFile {
            path: &places.config,
            text: text.as_bytes(),
            mode: 0o640,
            owner: service.map(|(_, group)| (0, group)),
        },
        NewFile { path: &places.secret, text: secret.expose().as_bytes(), mode: 0o600, owner: service },
    ];
    let hook_secret = match args.webhook_url {
        Some(_) => Some(Zeroizing::new(format!("{}\n", *secrets::new_secret().map_err(Failure::from)?))),
        None => None,
    };
    if let Some(text) = &hook_secret {
        files.push(NewFile { path: &places.hook_secrets, text: text.as_bytes(), mode: 0o600, owner: service });
    }
    let pair = match (&answers.own_pair, args.behind_proxy) {
        (None, false) => {
            let made = self_signed::make_pem(&answers.hosts, now);
            Some(made.map_err(|error| {
                Failure::new("the certificate cannot be created", error, "Use other names with --host.")
            })?)
        }
        _ => None,
    };
    if let Some((cert, key)) = &pair {
        files.push(NewFile { path: &places.key, text: key.as_bytes(), mode: 0o600, owner: service });
        files.push(NewFile { path: &places.cert, text: cert.as_bytes(), mode: 0o644, owner: service });
    }
    let dirs = [
        places.config.parent().map(|dir| (dir, 0o755, None)),
        places.secret.parent().map(|dir| (dir, 0o755, None)),
        Some((data_dir, 0o700, service)),
        pair.as_ref().and(places.cert.parent()).map(|dir| (dir, 0o700, service)),
    ];
    put(&files, dirs.into_iter().flatten()).map_err(|(path, error)| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "Use sudo, or use a --dir and a --data-dir that you can write to.",
            io::ErrorKind::AlreadyExists => "The file exists already. Move it away first, or use another --dir.",
            _ => "Check the directory and the disk, and try again.",
        };
        Failure::new(format!("nothing was written: {}", path.display()), error, remedy)
    })?;
    let last_day = day(now.plus(self_signed::GOOD_FOR));
    Ok(Written { certificate: pair.map(|_| (places.cert.clone(), last_day)), is_for_service: service.is_some() })
}

fn config_text(args: &InitArgs, places: &Places, data_dir: &Path, answers: &Answers) -> anyhow::Result<String> {
    let mut values = vec![
        ("server.listen", answers.listen.to_string()),
        ("storage.data_dir", path_text("--data-dir", data_dir)?),
        ("auth.jwt_secret_file", path_text("--dir", &places.secret)?),
    ];
    if !answers.origins.is_empty() {
        values.push(("server.cors_origins", answers.origins.join(",")));
    }
    if let Some(url) = &args.webhook_url {
        values.push(("webhooks.url", url.to_string()));
        values.push(("webhooks.secret_file", path_text("--dir", &places.hook_secrets)?));
    }
    match &answers.own_pair {
        Some((cert, key)) => {
            values.push(("tls.mode", "files".to_owned()));
            values.push(("tls.cert", path_text("--tls-cert", cert)?));
            values.push(("tls.key", path_text("--tls-key", key)?));
        }
        None if args.behind_proxy => {
            values.push(("tls.mode", "off".to_owned()));
            values.push(("server.behind_proxy", "true".to_owned()));
        }
        None => {}
    }
    let text = annotated_file(|key| values.iter().find(|(name, _)| *name == key.name).map(|(_, value)| value.clone()));
    let file = SourceFile { path: places.config.clone(), text: Ok(text.clone()) };
    let sources = Sources { files: vec![file], ..Sources::default() };
    match examine(&sources).1.into_iter().next() {
        None => Ok(text),
        Some(problem) => Err(Failure::usage("the answers contradict each other", problem, "Correct them.").into()),
    }
}

/// A file to write.
struct NewFile<'a> {
    path: &'a Path,
    text: &'a [u8],
    mode: u32,
    owner: Option<(u32, u32)>,
}

/// Writes all files. If one of them fails, those that were written before are removed.
fn put<'a>(
    files: &'a [NewFile<'a>],
    dirs: impl Iterator<Item = (&'a Path, u32, Option<(u32, u32)>)>,
) -> Result<(), (&'a Path, io::Error)> {
    let mut made_dirs: Vec<&Path> = Vec::new();
    let mut made: Vec<&Path> = Vec::new();
    let result = (|| {
        for (dir, mode, owner) in dirs {
            let failed = |error| (dir, error);
            let _rights = Rights::within(dir).map_err(failed)?;
            if !dir.exists() {
                DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(failed)?;
                made_dirs.push(dir);
                // What root makes in a directory of root's nobody has replaced meanwhile.
                if let (Some((user, group)), true) = (owner, rustix::process::geteuid().is_root()) {
                    lchown(dir, Some(user), Some(group)).map_err(failed)?;
                }
            }
        }
        for file in files {
            let failed = |error| (file.path, error);
            // In a directory of the service's, as the service: its files are its own, and no link there leads elsewhere.
            let _rights = Rights::within(file.path.parent().unwrap_or(file.path)).map_err(failed)?;
            // `create_new` fails if the file exists by now: nothing is overwritten.
            let begun = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(file.path);
            let mut begun = begun.map_err(failed)?;
            made.push(file.path);
            begun.write_all(file.text).and_then(|()| begun.sync_all()).map_err(failed)?;
            if let (Some((user, group)), true) = (file.owner, rustix::process::geteuid().is_root()) {
                fchown(&begun, Some(user), Some(group)).map_err(failed)?;
            }
        }
        Ok(())
    })();
    if result.is_err() {
        // A failure to remove them is not reported: the first error is.
        let within = |path: &Path| Rights::within(path.parent().unwrap_or(path));
        made.iter().for_each(|path| drop(within(path).map(|_rights| fs::remove_file(path))));
        made_dirs.iter().rev().for_each(|dir| drop(within(dir).map(|_rights| fs::remove_dir(dir))));
    }
    result
}

/// A user of this machine, and its group.
fn user_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let text = fs::read_to_string(passwd).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn words(places: &Places, answers: &Answers, written: &Written) -> String {
    // Nobody can connect to a star.
    let host = answers.hosts.iter().find(|host| !host.contains('*')).or(answers.hosts.first());
    let name = host.map_or("localhost".to_owned(), |host| match host.contains(':') {
        true => format!("[{host}]"),
        false => host.replace('*', "NAME"),
    });
    let (config, secret) = (places.config.display(), places.secret.display());
    let mut text = format!("Written:\n  {config}  the configuration\n  {secret}  the secret to sign tokens with\n");
    if let Some((cert, last_day)) = &written.certificate {
        let names = answers.hosts.join(", ");
        text.push_str(&format!(
            "  {}  a self-signed certificate for {names}, valid until {last_day}\n",
            cert.display()
        ));
    }
    let is_default = places.config == Config::default_file();
    let option = if is_default { String::new() } else { format!(" --config {config}") };
    let start = if written.is_for_service && is_default {
        "systemctl enable --now academy-rt".to_owned()
    } else {
        format!("academy-rt{option} serve")
    };
    text.push_str(&format!(
        "\nNext:\n\
         \x20 1. Start the server:        {start}\n\
         \x20 2. Check the installation:  academy-rt{option} doctor\n\
         \x20 3. Issue a token to try it: academy-rt{option} token issue --user 7 --name Ann --role learner\n\
         \x20 4. Put the secret with which the web platform signs its tokens (its JWT_SECRET) into {secret},\n\
         \x20    in place of what is there; a platform that has none yet takes that one.\n"
    ));
    if let Some((cert, _)) = &written.certificate {
        text.push_str(&format!(
            "  5. Make clients trust {}, or configure a certificate of your authority.\n",
            cert.display()
        ));
    }
    match (answers.listen.port(), answers.listen.ip().is_loopback()) {
        (_, true) => {
            text.push_str("\nOnly this machine can connect, because the server listens on a loopback address.")
        }
        (443, _) => text.push_str(&format!("\nClients connect to https://{name}")),
        (port, _) => text.push_str(&format!("\nClients connect to https://{name}:{port}")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_half_way_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("second"), "kept").unwrap();
        let (first, second, new) = (at("new/first"), at("second"), at("new"));
        let file = |path| NewFile { path, text: b"x", mode: 0o600, owner: None };
        let files = [file(&first), file(&second)];
        let (path, error) = put(&files, [(new.as_path(), 0o700, None)].into_iter()).unwrap_err();
        assert_eq!((path, error.kind()), (second.as_path(), io::ErrorKind::AlreadyExists));
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&second).unwrap(), "kept");
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        fs::write(&path, "root:x:0:0::/:/bin/sh\nacademy-rt2:x:7:7::/:/x\nacademy-rt:x:990:991::/:/usr/sbin/nologin\n")
            .unwrap();
        assert_eq!(user_of(path.to_str().unwrap(), SERVICE_USER), Some((990, 991)));
        assert_eq!(user_of(path.to_str().unwrap(), "nobody"), None);
    }
}
