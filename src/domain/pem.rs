//! The text of PEM files (RFC 7468) as editors, mail programs and shells of Windows leave it: with a byte order mark, in UTF-16,
//! indented, with other ends of lines. What the file means is the same, and readers of PEM want the plain text.

use zeroize::Zeroizing;

const UTF8_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];

/// The same text in ASCII, each line without the white space around it. Overwritten when it has served: it may be a key.
#[must_use]
pub fn plain(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    let ascii = |pair: [u8; 2], high: usize| match pair {
        [one, other] if high == 0 && one == 0 => other,
        [one, other] if high == 1 && other == 0 => one,
        // It is no character of PEM.
        _ => b'?',
    };
    let (wide, rest) = match text {
        [0xFE, 0xFF, rest @ ..] => (Some(0), rest),
        [0xFF, 0xFE, rest @ ..] => (Some(1), rest),
        _ => (None, text.strip_prefix(UTF8_MARK).unwrap_or(text)),
    };
    let narrow: Zeroizing<Vec<u8>> = match wide {
        None => Zeroizing::new(Vec::new()),
        Some(high) => {
            let mut narrow = Zeroizing::new(Vec::with_capacity(rest.len() / 2));
            narrow.extend(rest.as_chunks::<2>().0.iter().map(|pair| ascii(*pair, high)));
            narrow
        }
    };
    let rest = if wide.is_some() { &narrow[..] } else { rest };
    for line in rest.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
    {
        plain.extend_from_slice(line);
        plain.push(b'\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_comes_out_of_every_spelling() {
        let text = "-----BEGIN X-----\nAAAA\n-----END X-----\n";
        let wide = |mark: [u8; 2], bytes: fn(u16) -> [u8; 2]| {
            mark.into_iter().chain(text.encode_utf16().flat_map(bytes)).collect::<Vec<u8>>()
        };
        for spelt in [
            text.as_bytes().to_vec(),
            [UTF8_MARK, text.as_bytes()].concat(),
            text.replace('\n', "\r\n").into_bytes(),
            text.replace('\n', "\r").into_bytes(),
            text.trim_end().to_owned().into_bytes(),
            format!("\n{}", text.replace("-----BEGIN", "    -----BEGIN").replace("AAAA", "\t AAAA  ")).into_bytes(),
            wide([0xFF, 0xFE], u16::to_le_bytes),
            wide([0xFE, 0xFF], u16::to_be_bytes),
        ] {
            assert_eq!(std::str::from_utf8(&plain(&spelt)).unwrap(), text, "{spelt:?}");
        }
        assert!(plain(b"").is_empty() && plain(&[0xFF, 0xFE]).is_empty());
    }
}
