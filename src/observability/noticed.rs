//! What strangers are refused for and an administrator may have forgotten to allow: the most frequent few, by name. Who
//! makes up names takes no more room than that, and does not push out what comes again and again for long.

use parking_lot::Mutex;

/// So many names are kept.
const MOST: usize = 16;
/// A longer name is cut.
const MOST_CHARS: usize = 200;

/// A name, and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The name: an address, an origin.
    pub name: String,
    /// How many requests it was seen in; too many rather than too few, if there were more names than are kept.
    pub requests: u64,
}

/// The names.
#[derive(Debug, Default)]
pub struct Noticed(Mutex<Vec<Seen>>);

impl Noticed {
    /// One more of a name. Gives whether it is worth a line: the first one, and the tenth, the hundredth and so on.
    pub fn note(&self, name: &str) -> bool {
        let name: String = name.chars().take(MOST_CHARS).filter(|char| !char.is_control()).collect();
        let mut names = self.0.lock();
        if let Some(seen) = names.iter_mut().find(|seen| seen.name == name) {
            seen.requests += 1;
            return is_power_of_ten(seen.requests);
        }
        if names.len() < MOST {
            names.push(Seen { name, requests: 1 });
            return true;
        }
        // The rarest gives its place, and its count: what is frequent comes to the top whoever else is there (space saving).
        if let Some(rarest) = names.iter_mut().min_by_key(|seen| seen.requests) {
            *rarest = Seen { name, requests: rarest.requests + 1 };
        }
        true
    }

    /// All that are kept, the most frequent first.
    #[must_use]
    pub fn read(&self) -> Vec<Seen> {
        let mut names = self.0.lock().clone();
        names.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name.cmp(&b.name)));
        names
    }
}

fn is_power_of_ten(count: u64) -> bool {
    count.checked_ilog10().is_some_and(|digits| 10_u64.checked_pow(digits) == Some(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_told_now_and_then_and_outlives_names_that_are_made_up() {
        let noticed = Noticed::default();
        let told = (0..1_000).filter(|_| noticed.note("10.0.0.5")).count();
        assert_eq!(told, 4, "1, 10, 100, 1000");
        (0..5_000).for_each(|number| {
            noticed.note(&format!("https://{number}.example"));
        });
        let names = noticed.read();
        assert_eq!(names.len(), MOST);
        assert_eq!(names.first(), Some(&Seen { name: "10.0.0.5".to_owned(), requests: 1_000 }));
        noticed.note(&format!("a\nb{}", "c".repeat(500)));
        assert!(noticed.read().iter().any(|seen| seen.name.starts_with("abccc") && seen.name.len() < 201));
    }
}
