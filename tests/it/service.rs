//! The service as an administrator runs it: by a configuration file, over TLS, with its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;

use crate::harness::{SECRET, free_port, run, until, words};

/// A certificate chain and its key, for a client.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);
/// A connection over TLS.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// So long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A connection from an address of this machine.
pub fn connect_from(from: [u8; 4], port: u16) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap()
    });
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A server with a configuration file in a directory of its own.
pub struct Service {
    child: Child,
    pub dir: tempfile::TempDir,
    pub port: u16,
    log: Arc<Mutex<String>>,
}

impl Service {
    /// Starts one with these lines in its configuration; the secret is in a file.
    pub fn start(lines: &str) -> Service {
        Service::start_in(tempfile::tempdir().unwrap(), free_port(), lines, &[], None)
    }

    /// Starts one in a directory. A listening socket that is handed in is passed on as systemd does.
    pub fn start_in(
        dir: tempfile::TempDir,
        port: u16,
        lines: &str,
        env: &[(&str, &str)],
        socket: Option<OwnedFd>,
    ) -> Service {
        Service::launch(dir, port, lines, env, socket, None)
    }

    /// Starts one that may have so many files and connections open.
    pub fn start_with_descriptors(lines: &str, env: &[(&str, &str)], descriptors: u32) -> Service {
        Service::launch(tempfile::tempdir().unwrap(), free_port(), lines, env, None, Some(descriptors))
    }

    fn launch(
        dir: tempfile::TempDir,
        port: u16,
        lines: &str,
        env: &[(&str, &str)],
        socket: Option<OwnedFd>,
        descriptors: Option<u32>,
    ) -> Service {
        let secret = dir.path().join("secret");
        if !secret.exists() {
            std::fs::write(&secret, SECRET).unwrap();
        }
        write_config(&dir, port, lines);
        let binary = env!("CARGO_BIN_EXE_academy-rt");
        let config = dir.path().join("academy-rt.toml");
        // The shell gives the socket the number that systemd gives it, and names the process that it is for.
        let mut command = Command::new("/bin/sh");
        match (&socket, descriptors) {
            (None, None) => command = Command::new(binary),
            (None, Some(descriptors)) => {
                command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""), binary]);
            }
            (Some(_), _) => {
                command.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null", binary]);
            }
        }
        let mut child = command
            .args(["--config", config.to_str().unwrap(), "serve"])
            .env_clear()
            .envs(env.iter().copied())
            .stdin(socket.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, stderr) = (log.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let mut service = Service { child, dir, port, log };
        until("the service starts", || {
            assert!(service.child.try_wait().unwrap().is_none(), "it ended at its start: {}", service.log());
            service.log().contains("\"message\":\"started\"")
        });
        service
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until something new is in its log.
    pub fn wait_for(&self, words: &str) {
        until(&format!("'{words}' in the log"), || self.log().contains(words));
    }

    /// Another configuration, and a reload; gives what it logged of that.
    pub fn reload(&self, lines: &str) -> String {
        write_config(&self.dir, self.port, lines);
        self.hang_up()
    }

    /// SIGHUP, and what it logged of it.
    pub fn hang_up(&self) -> String {
        let before = self.log().len();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        until("the reload is logged", || self.log()[before..].contains("reloaded"));
        self.log()[before..].to_owned()
    }

    /// A token of the secret that is in its file now.
    pub fn token(&self, user: &str, role: &str) -> String {
        let config = self.path("academy-rt.toml");
        let output = run(
            &["--config", config.to_str().unwrap(), "token", "issue", "--user", user, "--role", role, "--name", "Name"],
            &[],
        );
        assert!(output.status.success(), "{}", words(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A request over plain HTTP: the whole answer.
    pub fn plain(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        ask(&mut stream, head, body)
    }

    /// A call with a token over plain HTTP: the status and the JSON.
    pub fn call(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let head =
            format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json");
        parse(&self.plain(&head, body))
    }

    /// A connection over TLS, whoever is at the other end.
    pub fn tls(&self, identity: Option<Identity>) -> TlsStream {
        self.tls_with(aws_lc_rs::default_provider(), identity).unwrap()
    }

    /// A connection over TLS with what a client can do.
    pub fn tls_with(&self, provider: CryptoProvider, identity: Option<Identity>) -> std::io::Result<TlsStream> {
        self.tls_of(client(provider, identity))
    }

    /// A connection of a client that has been here before, if its configuration has: sessions are kept there.
    pub fn tls_of(&self, config: Arc<ClientConfig>) -> std::io::Result<TlsStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(config, name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", self.port)).unwrap());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// The certificate that new connections see.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.tls(None).conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// SIGTERM; it ends well. All that it has logged.
    pub fn end_with_log(self) -> String {
        let log = self.log.clone();
        drop(self.end());
        let text = || log.lock().unwrap().clone();
        until("its last word is read", || text().contains("\"message\":\"stopped\""));
        text()
    }

    /// SIGTERM, and its directory for what comes next.
    pub fn end(mut self) -> tempfile::TempDir {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn write_config(dir: &tempfile::TempDir, port: u16, lines: &str) {
    let at = |name: &str| dir.path().join(name);
    let text = lines
        .replace("PORT", &port.to_string())
        .replace("DATA", at("data").to_str().unwrap())
        .replace("DIR", dir.path().to_str().unwrap());
    std::fs::write(at("academy-rt.toml"), text).unwrap();
}

/// Sends a request on a connection and reads the answer to its end, or to the end of its body.
pub fn ask(stream: &mut (impl Read + Write), head: &str, body: &str) -> String {
    let request = format!("{head}\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0_u8; 1];
    while !answer.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the answer ended in its head");
        answer.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
    let mut content = vec![0; length];
    stream.read_exact(&mut content).unwrap();
    answer.extend(content);
    String::from_utf8(answer).unwrap()
}

/// The status and the JSON of an answer.
pub fn parse(answer: &str) -> (u16, Value) {
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let json = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(json).unwrap_or(Value::Null))
}

/// A client that looks at the certificate by itself.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client that trusts anybody, with a certificate of its own or none.
pub fn client(provider: CryptoProvider, identity: Option<Identity>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    })
}
