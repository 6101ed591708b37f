//! System calls as strace(1) writes them, one process a file: name, arguments as text, result.

/// One call that has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `openat`
    pub name: String,
    /// Each argument as it stands there.
    pub arguments: Vec<String>,
    /// What it returned; -1 for an error, none for a call that never returned.
    pub result: Option<i64>,
    /// A new process's id as strace itself sees it, where that is another than the result.
    pub seen_outside: Option<i64>,
    /// The whole line.
    pub line: String,
}

impl Call {
    /// Reads a line; none for one that tells of no call: a signal, an end.
    ///
    /// # Errors
    /// A line that is neither.
    pub fn read(line: &str) -> Result<Option<Self>, String> {
        if line.is_empty() || line.starts_with("+++ ") || line.starts_with("--- ") {
            return Ok(None);
        }
        // A process that was killed in the middle of it.
        let ended = line.strip_suffix(" <detached ...>").map(|begun| format!("{begun}) = ?"));
        let line = ended.as_deref().unwrap_or(line);
        let unreadable = || format!("not a line of strace's: {line}");
        let (name, rest) = line.split_once('(').ok_or_else(unreadable)?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            return Err(unreadable());
        }
        let (arguments, rest) = arguments(rest).ok_or_else(unreadable)?;
        let result = rest.trim_start().strip_prefix('=').ok_or_else(unreadable)?.trim_start();
        let seen_outside = result
            .split_once("/* ")
            .and_then(|(_, comment)| comment.strip_suffix(" in strace's PID NS */"))
            .and_then(|pid| pid.parse().ok());
        let word = result.split(' ').next().unwrap_or("");
        let result = match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok().map(|number| number as i64),
            None => word.parse().ok(),
        };
        if result.is_none() && word != "?" {
            return Err(unreadable());
        }
        Ok(Some(Self { name: name.to_owned(), arguments, result, seen_outside, line: line.to_owned() }))
    }

    /// An argument as it stands there; nothing where there is none.
    pub fn argument(&self, number: usize) -> &str {
        self.arguments.get(number).map_or("", String::as_str)
    }

    /// A descriptor; none for `AT_FDCWD`.
    pub fn descriptor(&self, number: usize) -> Option<i64> {
        self.argument(number).parse().ok()
    }

    /// A string; none for a null pointer.
    ///
    /// # Errors
    /// What is no string: an address that strace could not read, or a text that it has cut.
    pub fn string(&self, number: usize) -> Result<Option<String>, String> {
        match self.argument(number) {
            "NULL" => Ok(None),
            text => unquoted(text).map(Some).ok_or_else(|| format!("argument {number} is no whole string")),
        }
    }

    /// Whether a word stands among an argument's flags or fields.
    pub fn has(&self, number: usize, word: &str) -> bool {
        let apart = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        self.argument(number).split(apart).any(|flag| flag == word)
    }
}

/// The arguments up to the closing bracket, and what follows it.
fn arguments(text: &str) -> Option<(Vec<String>, &str)> {
    let (mut arguments, mut current) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (place, c) in text.char_indices() {
        let outside = !quoted && depth == 0;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            ')' if outside => {
                let last = current.trim().trim_end_matches("<unfinished ...>").trim_end().to_owned();
                arguments.extend((!last.is_empty()).then_some(last));
                return Some((arguments, &text[place + 1..]));
            }
            ',' if outside => {
                arguments.push(std::mem::take(&mut current).trim().to_owned());
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        current.push(c);
    }
    None
}

/// The bytes of `"…"` as text, its escapes read as C's.
fn unquoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::new();
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        let byte = match (byte, byte == b'\\') {
            (byte, false) => byte,
            _ => match rest.next()? {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'v' => 0x0b,
                b'f' => 0x0c,
                digit @ b'0'..=b'7' => {
                    let mut value = u32::from(digit - b'0');
                    for _ in 0..2 {
                        let Some(digit) = rest.next_if(|b| (b'0'..=b'7').contains(b)) else { break };
                        value = value * 8 + u32::from(digit - b'0');
                    }
                    value as u8
                }
                other => other,
            },
        };
        bytes.push(byte);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
