//! Setting up: `init` with flags and by its questions, `config`, `completions`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::harness::{free_port, run, until, words};

fn says(args: &[&str]) -> (i32, String) {
    let output = run(args, &[]);
    (output.status.code().unwrap(), words(&output))
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

fn init(dir: &Path, more: &[&str]) -> (i32, String) {
    let (etc, data) = (path(dir, "etc"), path(dir, "data"));
    let args: Vec<&str> =
        ["init", "--non-interactive", "--dir", &etc, "--data-dir", &data].iter().chain(more).copied().collect();
    says(&args)
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path.to_str().unwrap().to_owned()) }
    }
    found.sort();
    found
}

#[test]
fn an_installation_that_init_has_made_serves_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let (status, said) = init(
        dir,
        &[
            "--host",
            "rt.example.ca",
            "--host",
            "192.0.2.7",
            "--listen",
            &listen,
            "--cors-origin",
            "https://p.example.ca",
        ],
    );
    assert_eq!(status, 0, "{said}");
    let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode("etc/academy-rt.toml"), mode("etc/jwt-secret"), mode("data"), mode("data/tls/key.pem")],
        [0o640, 0o600, 0o700, 0o600]
    );
    let secret = fs::read_to_string(dir.join("etc/jwt-secret")).unwrap();
    assert!(secret.len() == 64 && !said.contains(&secret), "the secret is shown to nobody");
    let config = path(dir, "etc/academy-rt.toml");
    assert_eq!(
        says(&["--config", &config, "config", "check"]),
        (0, format!("read: {config}\nthe configuration is valid\n"))
    );

    let mut child = Command::new(env!("CARGO_BIN_EXE_academy-rt"))
        .args(["--config", &config, "serve", "--quiet"])
        .env_clear()
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // A client that trusts the certificate, and asks for the name.
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("data/tls/cert.pem")).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = std::sync::Arc::new(client);
    let connects = |name: &'static str| -> std::io::Result<()> {
        let mut connection = ClientConnection::new(client.clone(), ServerName::try_from(name).unwrap())
            .map_err(std::io::Error::other)?;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(())
    };
    until("it serves", || connects("rt.example.ca").is_ok());
    assert!(connects("elsewhere.example.ca").is_err());
    let token = run(&["--config", &config, "token", "issue", "--user", "7"], &[]);
    assert!(token.status.success(), "{}", words(&token));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn nothing_is_written_over_and_nothing_is_left_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (there, names) in
        [("etc/academy-rt.toml", "academy-rt.toml"), ("etc/jwt-secret", "jwt-secret"), ("data/tls/key.pem", "key.pem")]
    {
        let file = dir.join(there);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "mine").unwrap();
        let (status, said) = init(dir, &[]);
        assert!(status == 1 && said.contains(names) && said.contains("exists already"), "{said}");
        assert_eq!(files(dir), [file.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        fs::remove_file(&file).unwrap();
    }
    for (more, status, what) in [
        (&["--host", "not a name"][..], 2, "neither a host name nor an address"),
        (&["--cors-origin", "portal.example.ca"], 2, "is not an origin"),
        (&["--tls-cert", "/absent", "--tls-key", "/absent"], 1, "cannot be read"),
        (&["--tls-cert", "/absent"], 2, "--tls-key"),
        (&["--listen", "nowhere"], 2, "nowhere"),
        (&["--behind-proxy", "--tls-cert", "a", "--tls-key", "b"], 2, "cannot be used with"),
    ] {
        let (found, said) = init(dir, more);
        assert!(found == status && said.contains(what), "{more:?}: {said}");
        assert!(files(dir).is_empty(), "{:?}", files(dir));
    }
    let (status, said) = says(&["init", "--dir", dir.to_str().unwrap()]);
    assert!(status == 2 && said.contains("--non-interactive"), "{said}");
    let (status, said) = says(&["init", "--non-interactive", "--dir", "/proc/academy-rt"]);
    assert!(status == 1 && said.contains("nothing was written"), "{said}");
}

#[test]
fn behind_a_proxy_there_is_no_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (status, said) = init(dir, &["--behind-proxy"]);
    assert_eq!(status, 0, "{said}");
    assert!(!dir.join("data/tls").exists());
    let (status, shown) = says(&["--config", &path(dir, "etc/academy-rt.toml"), "config", "show"]);
    assert!(
        status == 0 && shown.contains("mode = \"off\"") && shown.contains("listen = \"127.0.0.1:8443\""),
        "{shown}"
    );
}

/// On a terminal, which `script` makes.
#[test]
fn questions_are_asked_again_until_the_answer_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let line = format!(
        "{} init --dir {} --data-dir {}",
        env!("CARGO_BIN_EXE_academy-rt"),
        path(dir, "etc"),
        path(dir, "data")
    );
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let answers = "not/a/name\nrt.example.ca 192.0.2.7\nnowhere\n127.0.0.1:9443\n/absent.pem\n/absent.key\n\nportal\nhttps://portal.example.ca\n";
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    for words in
        ["neither a host name", "must be ADDRESS:PORT", "cannot be read", "is not an origin", "Written:", "Next:"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (_, shown) = says(&["--config", &path(dir, "etc/academy-rt.toml"), "config", "show"]);
    for value in ["listen = \"127.0.0.1:9443\"", "cors_origins = [\"https://portal.example.ca\"]"] {
        assert!(shown.contains(value), "{shown}");
    }
}

#[test]
fn what_config_show_prints_is_the_same_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "a.toml");
    let text = "[server]\ncors_origins = [\"https://a.example\", \"https://b.example\"]\ndrain = \"3s\"\n[limits]\nmessage_burst = 0x1F\n\
                [auth]\nissuer = \"it's \\\"quoted\\\"\"\n[retention]\nchat = \"90d\"\n";
    fs::write(&file, text).unwrap();
    let env =
        [("JWT_SECRET", "hunter2, hunter2, hunter2, hunter2"), ("PORT", "9000"), ("ACADEMY_RT_LOG_LEVEL", "warn")];
    let shown = run(&["--config", &file, "config", "show"], &env);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && !text.contains("hunter2") && text.contains("# jwt_secret: (set)"), "{text}");
    for line in [
        format!("drain = \"3s\"                                 # {file}:3"),
        "listen = \"127.0.0.1:9000\"                    # environment PORT".to_owned(),
        "level = \"warn\"                               # environment ACADEMY_RT_LOG_LEVEL".to_owned(),
        "message_burst = 31".to_owned(),
        "path = \"/ws\"                                 # default".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    let again = path(dir.path(), "b.toml");
    fs::write(&again, &text).unwrap();
    let values = |config: &str, env: &[(&str, &str)]| {
        let output = run(&["--config", config, "--output", "json", "config", "show"], env);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut values = json.as_object().unwrap().clone();
        values.remove("auth.jwt_secret");
        values.into_iter().map(|(key, value)| (key, value["value"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(values(&again, &[]), values(&file, &env));
    let (status, default) = says(&["config", "default"]);
    assert_eq!(status, 0);
    assert_eq!(default, include_str!("../../assets/academy-rt.toml"));
    let (_, help) = says(&["config", "show", "--help"]);
    for key in academy_rt::config::KEYS {
        assert!(help.contains(key.name), "{}", key.name);
    }
}

#[test]
fn config_check_finds_everything_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "a.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        says(&["--config", &file, "config", "check"])
    };
    let (status, said) = check("[server]\nlisen = \"x\"\ndrain = 10\n\n[tls]\nmode = \"on\"\n[limit]\n");
    assert_eq!(status, 3, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("read: {file}"));
    for (line, number, words) in [
        (1, 2, "no key 'server.lisen'; did you mean 'server.listen'?"),
        (2, 3, "server.drain must be a duration"),
        (3, 6, "tls.mode must be files, self-signed or off"),
        (4, 7, "did you mean 'limits'?"),
    ] {
        assert!(lines[line].starts_with(&format!("{file}:{number}: ")) && lines[line].contains(words), "{said}");
    }
    // What it names is looked at, too.
    let data = path(dir.path(), "data");
    let storage = format!("[storage]\ndata_dir = \"{data}\"\n");
    for (text, what) in [
        (
            format!("{storage}[tls]\nmode = \"files\"\ncert = \"/absent.pem\"\nkey = \"/absent.key\"\n"),
            "cannot be read",
        ),
        (format!("{storage}[auth]\njwt_secret_file = \"/absent\"\n"), "the JWT secret cannot be used"),
        (format!("{storage}[server]\nlisten = \"0.0.0.0:80\"\n[tls]\nmode = \"off\"\n"), "plain HTTP is refused"),
        (format!("[storage]\ndata_dir = \"{file}/data\"\n"), "a.toml/data cannot be used"),
        (format!("[storage]\ndata_dir = \"{file}\"\n"), "not a directory"),
    ] {
        let (status, said) = check(&text);
        assert!(status == 3 && said.contains(what), "{what}: {said}");
    }
    assert_eq!(check(&storage), (0, format!("read: {file}\nthe configuration is valid\n")));
    assert!(!Path::new(&data).exists(), "nothing is made");
    assert_eq!(says(&["--config", "/absent.toml", "config", "check"]).0, 1);
    let output = run(&["--config", &file, "--output", "json", "config", "check"], &[("ACADEMY_RT_LIMITS_PAYLOD", "1")]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), json["ok"].as_bool()), (Some(3), Some(false)));
    assert!(json["problems"][0]["why"].as_str().unwrap().contains("ACADEMY_RT_LIMITS_PAYLOAD"));
}

#[test]
fn a_shell_completes_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell], &[]);
        assert!(output.status.success() && !output.stdout.is_empty());
        fs::write(dir.path().join(shell), output.stdout).unwrap();
    }
    let ask = "source ./bash; COMP_WORDS=(academy-rt st); COMP_CWORD=1; _academy__rt academy-rt st academy-rt; echo \"${COMPREPLY[@]}\"; \
               COMP_WORDS=(academy-rt backup --re); COMP_CWORD=2; _academy__rt academy-rt --re backup; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", ask]).current_dir(dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "status\n--recipient\n", "{}", words(&output));
    assert_eq!(says(&["completions", "tcl"]).0, 2);
}

#[test]
fn init_writes_the_configuration_that_is_named_and_the_secret_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (path(dir.path(), "own/name.toml"), path(dir.path(), "data"));
    let args = ["--config", &config, "init", "--non-interactive", "--data-dir", &data, "--host", "rt.example.ca"];
    let (status, said) = says(&args);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains(&config), "{said}");
    assert_eq!(files(&dir.path().join("own")), [path(dir.path(), "own/jwt-secret"), config.clone()]);
    assert_eq!(says(&["--config", &config, "config", "check"]).0, 0);
    // It is not written over.
    let (status, said) = says(&args);
    assert!(status != 0 && said.contains("exists already"), "{said}");
    // The secret can have a place of its own.
    let (other, etc) = (path(dir.path(), "other.toml"), path(dir.path(), "etc"));
    let args = ["--config", &other, "init", "--non-interactive", "--dir", &etc, "--behind-proxy", "--data-dir", &data];
    let (status, said) = says(&args);
    assert_eq!(status, 0, "{said}");
    assert!(dir.path().join("etc/jwt-secret").exists() && dir.path().join("other.toml").exists(), "{said}");
}
