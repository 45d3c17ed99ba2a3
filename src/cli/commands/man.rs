//! `man`: writes the man pages and the annotated configuration, from the same sources as `--help` and the table of
//! configuration keys.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::config::KEYS;

use crate::cli::exit::Exit;

/// When the pages were last revised. It is not the day of the build, so that builds are reproducible.
const REVISED: &str = "2026-11-23";
/// The page about concepts, which is written by hand.
const CONCEPTS: &str = include_str!("../../../assets/academy-rt.7");

/// The page about security, which academy-rt-security(7) is made from.
const SECURITY: &str = include_str!("../../../docs/security.md");

/// Write the man pages into a directory.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory for the man pages
    dir: PathBuf,
    /// Also write the annotated default configuration to this file
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Writes them.
///
/// # Errors
/// If the directory cannot be written.
pub fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    for (name, page) in pages()? {
        std::fs::write(args.dir.join(&name), page).with_context(|| format!("{name} cannot be written"))?;
    }
    if let Some(path) = &args.config {
        std::fs::write(path, crate::config::keys::default_file()).context("the configuration cannot be written")?;
    }
    Ok(Exit::Done)
}

/// All pages: their file names and their text.
///
/// # Errors
/// If a page cannot be rendered.
pub fn pages() -> anyhow::Result<Vec<(String, String)>> {
    let mut pages = vec![
        ("academy-rt.toml.5".to_owned(), configuration()),
        (
            "academy-rt.7".to_owned(),
            CONCEPTS.replace("@DATE@", REVISED).replace("@VERSION@", env!("CARGO_PKG_VERSION")),
        ),
    ];
    pages.push(("academy-rt-metrics.7".to_owned(), metrics()));
    pages.push(("academy-rt-security.7".to_owned(), security()));
    let mut command = without_help(crate::cli::command());
    command.build();
    render(&command, "academy-rt", &mut pages)?;
    Ok(pages)
}

/// Without the commands `help`, which have no pages: every page that another one refers to exists.
fn without_help(command: clap::Command) -> clap::Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn render(command: &clap::Command, name: &str, pages: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let mut page = Vec::new();
    let program = format!("academy-rt {}", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone().name(name.to_owned()).display_name(name));
    man.date(REVISED).source(program).manual("academy-rt").render(&mut page)?;
    let page = String::from_utf8(page).context("a page is not UTF-8")?;
    // Line breaks around an empty line are one empty line, and linters say so.
    let mut page = page.replace("\n.br\n\n.br\n", "\n.sp\n");
    if command.get_subcommands().next().is_some() && name == "academy-rt" {
        page.push_str(SURROUNDINGS);
    } else {
        page.push_str(".SH \"SEE ALSO\"\n.BR academy\\-rt (1),\n.BR academy\\-rt.toml (5),\n.BR academy\\-rt (7)\n");
    }
    pages.push((format!("{name}.1"), page));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        render(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

/// The sections that apply to all commands.
const SURROUNDINGS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
Success.
.TP
.B 1
Failure; standard error says what happened, why, and what to do.
.TP
.B 2
Wrong usage.
.TP
.B 3
A check found a problem.
.SH ENVIRONMENT
.TP
.B ACADEMY_RT_CONFIG
The configuration file.
.TP
.B ACADEMY_RT_TOKEN
The token for \-\-url.
.TP
.B ACADEMY_RT_SECTION_KEY
A configuration key; for example, ACADEMY_RT_SERVER_LISTEN sets server.listen.
.TP
.B JWT_SECRET
The shared secret of tokens; PORT, WEBSOCKET_ENABLED and WEBSOCKET_CORS_ORIGIN are also names that the platform uses.
.TP
.BR RUNTIME_DIRECTORY ", " CREDENTIALS_DIRECTORY ", " NOTIFY_SOCKET ", " WATCHDOG_USEC ", " LISTEN_FDS
Set by systemd.
.SH FILES
.TP
.I /etc/academy\-rt/academy\-rt.toml
The default configuration file.
.TP
.I /etc/academy\-rt/conf.d/*.toml
Configuration files that are read after it, in the order of their names.
.TP
.I DATA_DIR/academy.redb
The database with all stored data.
.TP
.I DATA_DIR/jwt\-secret
The secret that the server creates if the configuration names none.
.TP
.I DATA_DIR/tls/
The certificate that the server creates if the configuration names none.
.TP
.I /run/academy\-rt/control.sock
The control socket of the service, which the commands use; without a service manager it is DATA_DIR/control.sock.
.TP
.I /run/academy\-rt\-readers/readers.sock
The socket for the group academy\-rt\-readers, whose members may only read; elsewhere it is in the directory of the control socket with \-readers behind its name, if that is there.
.SH "SEE ALSO"
.BR academy\-rt.toml (5),
.BR academy\-rt (7)
"#;

/// academy-rt.toml(5), from the table of keys.
fn configuration() -> String {
    let mut page = format!(
        ".TH academy\\-rt.toml 5 \"{REVISED}\" \"academy\\-rt {}\"\n\
         .SH NAME\nacademy\\-rt.toml \\- configuration of academy\\-rt\n\
         .SH DESCRIPTION\nThe file is TOML. Every key has a default. An unknown key or an invalid value is an error that names the file, the line and the key.\n\
         Command-line options override the environment, which overrides the files. Durations are written as 30s, 15m, 24h or 7d, sizes as 64KiB or 1MB.\n\
         .PP\nBehind this file, the files\n.I conf.d/*.toml\nin the same directory are read, in the order of their names:\n\
         .I /etc/academy\\-rt/conf.d/50\\-site.toml\nfor example. Each has the same sections and keys. A key in a later file replaces the key of an earlier one; a list is replaced as a whole.\n\
         Names that do not end in .toml, and hidden files, are not read.\n\
         .PP\nA reload applies new values; keys marked (restart) need a restart.\n\
         .B academy\\-rt config check\nchecks a configuration and shows which files were read;\n.B academy\\-rt config default\nprints a file with comments and all defaults.\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut section = "";
    for key in KEYS {
        let (in_section, name) = key.parts();
        if in_section != section {
            section = in_section;
            page.push_str(&format!(".SH \"[{section}]\"\n"));
        }
        page.push_str(&format!(".TP\n.B {}\n{}\n", roff(name), roff(&key.description())));
        if !key.default.is_empty() {
            page.push_str(&format!("Default: {}.\n", roff(key.default)));
        }
        page.push_str(&format!("Environment: {}.\n", roff(&key.env_name())));
    }
    page.push_str(
        ".SH EXAMPLE\n.nf\n[server]\nlisten = \"0.0.0.0:443\"\ncors_origins = [\"https://portal.example.ca\"]\n\n[tls]\n\
         mode = \"files\"\ncert = \"/etc/academy\\-rt/tls/cert.pem\"\nkey = \"/etc/academy\\-rt/tls/key.pem\"\n.fi\n\
         .SH \"SEE ALSO\"\n.BR academy\\-rt (1),\n.BR academy\\-rt (7)\n",
    );
    page
}

/// academy-rt-metrics(7), from the metrics themselves.
fn metrics() -> String {
    let mut page = format!(
        ".TH academy\\-rt\\-metrics 7 \"{REVISED}\" \"academy\\-rt {}\"\n\
         .SH NAME\nacademy\\-rt\\-metrics \\- metrics of the real\\-time server\n\
         .SH DESCRIPTION\nGET\n.I /metrics\nneeds a token with the scope\n.BR metrics .\nOn the address of\n\
         .B metrics.listen\nit needs no token. The format is that of Prometheus, or OpenMetrics if the request asks for it.\n\
         Labels have a small, fixed set of values. The packages contain a Grafana dashboard and alert rules.\n\
         .SH METRICS\n",
        env!("CARGO_PKG_VERSION")
    );
    for (name, kind, help) in crate::observability::metrics::catalogue() {
        page.push_str(&format!(".TP\n.BR {} \" ({kind})\"\n{}\n", roff(&name), roff(&help)));
    }
    page.push_str(
        ".SH \"SEE ALSO\"\n.BR academy\\-rt\\-status (1),\n.BR academy\\-rt.toml (5),\n.BR academy\\-rt (7)\n",
    );
    page
}

/// academy-rt-security(7), from docs/security.md: its second-level headings, paragraphs, and the table of threats.
fn security() -> String {
    let mut page = format!(
        ".TH academy\\-rt\\-security 7 \"{REVISED}\" \"academy\\-rt {}\"\n\
         .SH NAME\nacademy\\-rt\\-security \\- access, keys and threats of the real\\-time server\n\
         .\\\" Names of tests are long: lines are not stretched.\n.ad l\n",
        env!("CARGO_PKG_VERSION")
    );
    // The text before the first heading is only for readers of the repository.
    let sections = SECURITY.split("\n## ").skip(1);
    for section in sections {
        let (title, text) = section.split_once('\n').unwrap_or((section, ""));
        page.push_str(&format!(".SH {}\n", roff(&title.to_uppercase())));
        let mut rows = 0;
        // The first paragraph follows its heading directly.
        let mut needs_break = false;
        let mut is_paragraph = false;
        for line in text.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            match cells.as_slice() {
                [threat, stop, test] if line.starts_with('|') => {
                    rows += 1;
                    // The first row is the table's head.
                    if rows > 1 {
                        page.push_str(&format!(
                            ".TP\n.B {}\n{}.\nShown by: {}.\n",
                            roff(threat),
                            roff(stop),
                            roff(test)
                        ));
                    }
                }
                _ if line.starts_with('|') => {}
                _ if line.is_empty() => is_paragraph = false,
                _ => {
                    if !is_paragraph && needs_break {
                        page.push_str(".PP\n");
                    }
                    needs_break = true;
                    is_paragraph = true;
                    page.push_str(&roff(line));
                    page.push('\n');
                }
            }
        }
    }
    page = page.replace("**", "").replace('`', "");
    page.push_str(".SH \"SEE ALSO\"\n.BR academy\\-rt.toml (5),\n.BR academy\\-rt (7)\n");
    page
}

/// Escapes text for roff.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
