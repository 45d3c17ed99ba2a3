//! Who is behind a local process: the user as which it runs, and the person who has signed in on the machine or has called
//! `sudo`. For the audit log: "local user 0" is nobody.

use std::fs;

/// What `loginuid` says of a process that nobody has signed in for.
const NOBODY: u32 = u32::MAX;
/// The longest name that is taken from somebody else, in characters.
const NAME_CHARS: usize = 64;

/// The name of a local user, if the file of the system has it.
#[must_use]
pub fn name_of(user: u32) -> Option<String> {
    name_in(&fs::read_to_string("/etc/passwd").ok()?, user)
}

fn name_in(passwd: &str, user: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(user)).then(|| name.to_owned()).filter(|name| !name.is_empty())
    })
}

/// Which user has signed in for a process (the kernel's audit id). `None` if nobody has, or the kernel does not show it.
#[must_use]
pub fn login_of(process: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|user| *user != NOBODY)
}

/// Who has started this process as another user: `SUDO_USER`, or who has signed in. `None` if it is the same one.
#[must_use]
pub fn behind_this_process() -> Option<String> {
    let user = rustix::process::getuid().as_raw();
    let own = name_of(user);
    let by_sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    let signed_in = || login_of("self").filter(|login| *login != user).map(named);
    by_sudo.or_else(signed_in).filter(|name| own.as_ref() != Some(name)).and_then(|name| clean(&name))
}

/// A name that somebody else gives, without what could be taken for more than a name.
#[must_use]
pub fn clean(name: &str) -> Option<String> {
    let name: String = name.chars().filter(|c| !c.is_control() && *c != ',').take(NAME_CHARS).collect();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// A local user by name and number.
#[must_use]
pub fn named(user: u32) -> String {
    name_of(user).map_or_else(|| user.to_string(), |name| format!("{name} ({user})"))
}

/// A local user, and for whom they act if that is known, in words.
#[must_use]
pub fn in_words(user: u32, behind: Option<&str>) -> String {
    match behind {
        Some(behind) => format!("local user {}, for {behind}", named(user)),
        None => format!("local user {}", named(user)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_name_of_the_system() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\n# none\n:x:7:7::/:\nann:x:1000:1000:Ann,,,:/home/ann:/bin/bash\n";
        assert_eq!(name_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!(name_in(passwd, 1_000).as_deref(), Some("ann"));
        assert_eq!((name_in(passwd, 7), name_in(passwd, 100), name_in("", 0)), (None, None, None));
    }

    #[test]
    fn a_name_from_elsewhere_is_a_name_and_no_more() {
        assert_eq!(clean("ann").as_deref(), Some("ann"));
        assert_eq!(clean(" ann, for\n root\u{1b}[2J ").as_deref(), Some("ann for root[2J"));
        assert_eq!((clean(""), clean(" \n")), (None, None));
        assert_eq!(clean(&"x".repeat(500)).map(|name| name.len()), Some(NAME_CHARS));
    }
}
