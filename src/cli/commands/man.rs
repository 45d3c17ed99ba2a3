//! `man`: writes the man pages, from the same sources as `--help` and the configuration's own table, and the annotated
//! configuration. For the build of the packages.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::config::KEYS;

use crate::cli::exit::Exit;

/// When the pages were last looked over; the day of a build would make every build another one.
const REVISED: &str = "2026-11-23";
/// The page about concepts, by hand.
const CONCEPTS: &str = include_str!("../../../assets/academy-rt.7");

/// The page about security, which academy-rt-security(7) is made from.
const SECURITY: &str = include_str!("../../../docs/security.md");

/// Write the man pages into a directory.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The directory
    dir: PathBuf,
    /// Where the annotated default configuration goes, if it shall be written too
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
    pages.push(("academy-rt-metrics.7".to_owned(), figures()));
    pages.push(("academy-rt-security.7".to_owned(), security()));
    let mut command = crate::cli::command();
    command.build();
    render(&command, "academy-rt", &mut pages)?;
    Ok(pages)
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
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        render(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

/// What holds for all commands.
const SURROUNDINGS: &str = r#".SH "EXIT STATUS"
.TP
.B 0
Done.
.TP
.B 1
It failed; standard error says what happened, why, and what to do.
.TP
.B 2
Wrong usage.
.TP
.B 3
A check found something.
.SH ENVIRONMENT
.TP
.B ACADEMY_RT_CONFIG
The configuration file.
.TP
.B ACADEMY_RT_TOKEN
The token for \-\-url.
.TP
.B ACADEMY_RT_SECTION_KEY
A key of the configuration: ACADEMY_RT_SERVER_LISTEN is server.listen.
.TP
.B JWT_SECRET
The secret of tokens; also PORT, WEBSOCKET_ENABLED and WEBSOCKET_CORS_ORIGIN, as the platform names them.
.TP
.BR RUNTIME_DIRECTORY ", " CREDENTIALS_DIRECTORY ", " NOTIFY_SOCKET ", " WATCHDOG_USEC ", " LISTEN_FDS
As systemd sets them.
.SH FILES
.TP
.I /etc/academy\-rt/academy\-rt.toml
The configuration, if it exists.
.TP
.I DATA_DIR/academy.redb
Everything that is stored.
.TP
.I DATA_DIR/jwt\-secret
The secret that the server has made, if it was given none.
.TP
.I DATA_DIR/tls/
The certificate that the server has made, if it was given none.
.TP
.I /run/academy\-rt/control.sock
Where commands reach the service; DATA_DIR/control.sock where no service manager has made a directory for it.
.SH "SEE ALSO"
.BR academy\-rt.toml (5),
.BR academy\-rt (7)
"#;

/// academy-rt.toml(5), from the table of keys.
fn configuration() -> String {
    let mut page = format!(
        ".TH academy\\-rt.toml 5 \"{REVISED}\" \"academy\\-rt {}\"\n\
         .SH NAME\nacademy\\-rt.toml \\- configuration of academy\\-rt\n\
         .SH DESCRIPTION\nThe file is TOML. Every key has a default; an unknown key or a bad value is an error that names file, line and key.\n\
         Flags win over the environment, which wins over this file. Durations are 30s, 15m, 24h, 7d; sizes 64KiB, 1MB.\n\
         A reload takes new values; keys marked (restart) wait for a restart.\n\
         .B academy\\-rt config check\nlooks for what is wrong,\n.B academy\\-rt config default\nprints the commented file.\n",
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
fn figures() -> String {
    let mut page = format!(
        ".TH academy\\-rt\\-metrics 7 \"{REVISED}\" \"academy\\-rt {}\"\n\
         .SH NAME\nacademy\\-rt\\-metrics \\- figures of the real\\-time server\n\
         .SH DESCRIPTION\nGET\n.I /metrics\nanswers who has a token with the scope\n.BR metrics ,\nor, on the address of\n\
         .BR metrics.listen ,\neverybody. The format is that of Prometheus, or OpenMetrics for who asks for it.\n\
         Labels have few and fixed values. A dashboard for Grafana and alert rules come with the packages.\n\
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
    // What stands before the first heading introduces the page in the repository, and is not part of the man page.
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

/// Text as roff takes it.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
