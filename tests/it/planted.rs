//! Root's commands in a directory of the service's user, who has put links to root's files at the names that they use: nothing of
//! root's is read, changed or given away, and what the commands make belongs to the service. For root alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::harness::{Appliance, not_run, run, words};

/// The service's user.
const SERVICE: u32 = 4_711;
const TREASURE: &str = "what only root may read, of a length that a secret has";
/// So many times a restore is raced.
const ROUNDS: u32 = 16;

/// A data directory of the service's in a directory of root's, beside what is root's alone.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// `None` for who is not root: they own nothing that they could be fooled into giving away.
    fn new() -> Option<Place> {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap();
        if !rustix::process::geteuid().is_root() || !map.split_whitespace().eq(["0", "0", "4294967295"]) {
            not_run("files are given away by root alone");
            return None;
        }
        let appliance = Appliance::start();
        let token = appliance.token("7", "learner");
        appliance.say(&token, "general", "hello");
        let place = Place { dir: appliance.end() };
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(place.at("vault")).unwrap();
        fs::set_permissions(place.at("vault"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(place.treasure(), TREASURE).unwrap();
        fs::set_permissions(place.treasure(), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(place.at("data/jwt-secret"), "the secret of the service, long enough\n").unwrap();
        fs::set_permissions(place.at("data/jwt-secret"), fs::Permissions::from_mode(0o600)).unwrap();
        give(&place.at("data"));
        Some(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn treasure(&self) -> PathBuf {
        self.at("vault/treasure")
    }

    fn run(&self, args: &[&str]) -> Output {
        let data = self.at("data");
        let env = [("PATH", "/usr/bin:/bin"), ("ACADEMY_RT_STORAGE_MIN_FREE", "0")];
        run(args, &[env[0], env[1], ("ACADEMY_RT_STORAGE_DATA_DIR", data.to_str().unwrap())])
    }

    /// The service's user puts a link of this name into its directory.
    fn plant(&self, name: &str, target: &Path) {
        let link = self.at("data").join(name);
        drop(fs::remove_dir_all(&link));
        drop(fs::remove_file(&link));
        symlink(target, &link).unwrap();
        lchown(&link, Some(SERVICE), Some(SERVICE)).unwrap();
    }

    /// All that is root's is as it was, and nothing of it is in the service's directory.
    fn assert_unharmed(&self, after: &str) {
        let names: Vec<_> = fs::read_dir(self.at("vault")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["treasure"], "{after}: something was put into root's directory");
        let (vault, treasure) = (fs::metadata(self.at("vault")).unwrap(), fs::metadata(self.treasure()).unwrap());
        let facts = [(vault.uid(), vault.mode() & 0o777), (treasure.uid(), treasure.mode() & 0o777)];
        assert_eq!(facts, [(0, 0o700), (0, 0o600)], "{after}: root's file was given away");
        assert_eq!(fs::read_to_string(self.treasure()).unwrap(), TREASURE, "{after}: root's file was written");
        for (path, bytes) in files_below(&self.at("data")) {
            let has_it = bytes.windows(TREASURE.len()).any(|window| window == TREASURE.as_bytes());
            assert!(!has_it, "{after}: root's file was copied into {}", path.display());
        }
    }

    /// Whatever is in the service's directory is the service's.
    fn assert_owned(&self, after: &str) {
        for path in files_below(&self.at("data")).into_keys() {
            assert_eq!(fs::symlink_metadata(&path).unwrap().uid(), SERVICE, "{after}: {}", path.display());
        }
    }
}

/// Gives a tree to the service.
fn give(path: &Path) {
    lchown(path, Some(SERVICE), Some(SERVICE)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

/// The regular files below a directory that no link leads to, with their bytes.
fn files_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(files_below(&path));
        } else if metadata.is_file() {
            found.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
    found
}

#[test]
fn what_roots_commands_make_in_the_services_directory_is_the_services() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.at("data/backups")).unwrap();
    give(&place.at("data"));
    let backups = place.at("data/backups");
    let backup = backups.join("one.backup");
    let export = place.at("data/audit.jsonl");
    for args in [
        &["backup", backup.to_str().unwrap()][..],
        &["backup", "--to", backups.to_str().unwrap(), "--keep", "1"],
        &["backup", "--to", backups.to_str().unwrap(), "--keep", "1"],
        &["key", "rotate"],
        &["token", "issue", "--user", "7"],
        &["room", "create", "made-offline"],
        &["audit", "export", export.to_str().unwrap()],
        &["db", "check"],
        &["db", "compact"],
        &["restore", backup.to_str().unwrap()],
        &["restore", "--undo"],
    ] {
        let output = place.run(args);
        assert!(output.status.success(), "{args:?}: {}", words(&output));
        place.assert_owned(&format!("{args:?}"));
    }
    // Elsewhere, what root makes is root's.
    let elsewhere = place.at("mine.backup");
    assert!(place.run(&["backup", elsewhere.to_str().unwrap()]).status.success());
    assert_eq!(fs::metadata(&elsewhere).unwrap().uid(), 0);
    // And a backup of root's can be restored.
    let output = place.run(&["restore", elsewhere.to_str().unwrap()]);
    assert!(output.status.success(), "{}", words(&output));
    place.assert_owned("a restore of root's backup");
    let listed = place.run(&["audit", "list"]);
    assert!(words(&listed).contains("root"), "the audit log still says who did it: {}", words(&listed));
}

/// Each name that a command reads or writes is a link to root's file or directory.
#[test]
#[ignore = "long"]
fn links_that_the_services_user_plants_lead_roots_commands_nowhere() {
    let Some(place) = Place::new() else { return };
    let backup = place.at("good.backup");
    assert!(place.run(&["backup", backup.to_str().unwrap()]).status.success());
    let (backup, treasure, vault) = (backup.to_str().unwrap(), place.treasure(), place.at("vault"));
    let inside = |name: &str| place.at("data/inner").join(name).to_str().unwrap().to_owned();
    let (exported, made, bundle) = (inside("export.jsonl"), inside("new.key"), inside("bundle.json"));
    let (to, file) = (place.at("data/inner").to_str().unwrap().to_owned(), inside("x.backup"));
    let every: [&[&str]; 17] = [
        &["key", "rotate"],
        &["key", "list"],
        &["key", "retire", "k-1"],
        &["key", "new", &made],
        &["token", "issue", "--user", "7"],
        &["backup", &file],
        &["backup", "--to", &to, "--keep", "1"],
        &["audit", "export", &exported],
        &["audit", "list"],
        &["user", "export", "7", "--file", &exported],
        &["db", "check"],
        &["db", "stats"],
        &["db", "compact"],
        &["db", "upgrade"],
        &["restore", "--undo"],
        &["restore", backup],
        &["doctor", "--bundle", &bundle],
    ];
    let whole = place.at("whole");
    let copied = run_cp(&place.at("data"), &whole);
    assert!(copied, "the data are kept for each round");
    for (name, target) in [
        ("jwt-secret", &treasure),
        ("jwt-keys.json", &treasure),
        ("academy.redb", &treasure),
        ("academy.redb.new", &treasure),
        ("academy.redb.before-20991123T171055Z", &treasure),
        ("backup.key", &treasure),
        ("tls", &vault),
        ("backups", &vault),
        ("inner", &vault),
    ] {
        fs::remove_dir_all(place.at("data")).unwrap();
        assert!(run_cp(&whole, &place.at("data")));
        place.plant(name, target);
        for args in every {
            let output = place.run(args);
            let said = words(&output);
            assert!(!said.contains(TREASURE), "{name}, {args:?}: {said}");
            place.assert_unharmed(&format!("{name} is a link, {args:?}"));
        }
    }
    // `init` writes into a directory that is there already, as that of the packages is.
    place.plant("tls", &vault);
    let etc = place.at("etc");
    let (etc, data) = (etc.to_str().unwrap(), place.at("data"));
    let output = place.run(&[
        "init",
        "--non-interactive",
        "--dir",
        etc,
        "--host",
        "rt.example.ca",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    assert!(!output.status.success(), "{}", words(&output));
    place.assert_unharmed("init");
}

/// A copy with owners and modes.
fn run_cp(from: &Path, to: &Path) -> bool {
    std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success()
}

/// Between two steps of a restore the service's user puts a link in the place of what was made there: in each round a little later.
#[test]
fn a_restore_that_is_raced_gives_nothing_of_roots_away() {
    let Some(place) = Place::new() else { return };
    let backup = place.at("good.backup");
    assert!(place.run(&["backup", backup.to_str().unwrap()]).status.success());
    let whole = place.at("whole");
    assert!(run_cp(&place.at("data"), &whole));
    let (treasure, made) = (place.treasure(), place.at("data/academy.redb.new"));
    let restore = || place.run(&["restore", backup.to_str().unwrap(), "--force"]);
    // How long what is made is there, of a restore that nobody disturbs.
    let is_over = AtomicBool::new(false);
    let there = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            wait_for(&made, true, &is_over);
            let begun = Instant::now();
            wait_for(&made, false, &is_over);
            begun.elapsed()
        });
        assert!(restore().status.success());
        is_over.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    let mut planted = 0;
    for round in 0..ROUNDS {
        fs::remove_dir_all(place.at("data")).unwrap();
        assert!(run_cp(&whole, &place.at("data")));
        let is_over = AtomicBool::new(false);
        planted += std::thread::scope(|scope| {
            let racing = scope.spawn(|| {
                wait_for(&made, true, &is_over);
                let late = Instant::now() + there * round / ROUNDS;
                while Instant::now() < late && !is_over.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                let ready = place.at("data/ready");
                symlink(&treasure, &ready).unwrap();
                lchown(&ready, Some(SERVICE), Some(SERVICE)).unwrap();
                let is_there = made.symlink_metadata().is_ok();
                fs::rename(&ready, &made).unwrap();
                u32::from(is_there)
            });
            drop(restore());
            is_over.store(true, Ordering::Relaxed);
            racing.join().unwrap()
        });
        place.assert_unharmed("a raced restore");
    }
    assert!(planted > ROUNDS / 4, "only {planted} links were put in the place of what was made");
}

fn wait_for(path: &Path, is_there: bool, is_over: &AtomicBool) {
    while path.symlink_metadata().is_ok() != is_there && !is_over.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
}
