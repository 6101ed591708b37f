//! Edits JSON as a tree. libFuzzer's own changes of bytes mostly end the text as JSON; these keep it one, with the words of
//! the target's dictionary as keys and as values, so that most inputs come as far as the code behind the parser.

use serde_json::{Value, json};

/// xorshift64: the same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    /// Begins.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.any() >> 11) as usize % end.max(1)
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// FNV-1a: a seed that belongs to the input.
pub fn seed_of(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The input's next form, for LLVMFuzzerCustomMutator: its length. What is no JSON, and now and then what is, libFuzzer changes.
pub fn json(data: &mut [u8], size: usize, most: usize, seed: u32, dictionary: &'static str) -> usize {
    let mut dice = Dice::new(seed.into());
    if dice.below(8) > 0
        && let Ok(mut tree) = serde_json::from_slice::<Value>(&data[..size])
    {
        let words = super::words(dictionary);
        for _ in 0..=dice.below(4) {
            edit(&mut tree, &mut dice, &words);
        }
        let text = serde_json::to_vec(&tree).expect("a tree of strings and numbers");
        if text.len() <= most.min(data.len()) {
            data[..text.len()].copy_from_slice(&text);
            return text.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, most)
}

/// A value somewhere in the tree, deep ones as likely as shallow ones.
fn somewhere<'a>(value: &'a mut Value, dice: &mut Dice) -> &'a mut Value {
    let size = match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    if size == 0 || dice.below(8) == 0 {
        return value;
    }
    let n = dice.below(size);
    match value {
        Value::Array(list) => somewhere(&mut list[n], dice),
        Value::Object(map) => somewhere(map.values_mut().nth(n).expect("below its length"), dice),
        other => other,
    }
}

fn edit(tree: &mut Value, dice: &mut Dice, words: &[&str]) {
    let other = somewhere(tree, dice).clone();
    let here = somewhere(tree, dice);
    match (dice.below(10), here) {
        (0..6, Value::Object(map)) => object(map, other, dice, words),
        (0..6, Value::Array(list)) => array(list, other, dice),
        (0..6, Value::String(text)) => *text = string(text, dice, words),
        (0..5, Value::Number(number)) => *number = self::number(dice),
        (0..5, Value::Bool(word)) => *word = !*word,
        (6, here) => *here = other,
        (7, here) => *here = Value::String(dice.pick(words).into()),
        (8, here) => *here = Value::Number(number(dice)),
        (_, here) => *here = [Value::Null, json!({}), json!([]), json!(true)][dice.below(4)].clone(),
    }
}

fn object(map: &mut serde_json::Map<String, Value>, other: Value, dice: &mut Dice, words: &[&str]) {
    let known = map.keys().nth(dice.below(map.len())).cloned();
    match (dice.below(4), known) {
        (0, Some(key)) => drop(map.remove(&key)),
        (1, Some(key)) => {
            let value = map.remove(&key).expect("it is one of its keys");
            map.insert(dice.pick(words).into(), value);
        }
        _ => drop(map.insert(dice.pick(words).into(), other)),
    }
}

fn array(list: &mut Vec<Value>, other: Value, dice: &mut Dice) {
    let (a, b) = (dice.below(list.len()), dice.below(list.len()));
    match dice.below(4) {
        _ if list.is_empty() => list.push(other),
        0 => drop(list.remove(a)),
        1 => list.swap(a, b),
        2 => list.push(list[a].clone()),
        _ => list.insert(a, other),
    }
}

fn string(text: &str, dice: &mut Dice, words: &[&str]) -> String {
    let at = (0..=dice.below(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (head, tail) = text.split_at(at);
    match dice.below(6) {
        0 => dice.pick(words).into(),
        1 => format!("{head}{}{tail}", dice.pick(words)),
        2 => head.into(),
        3 => tail.into(),
        4 => format!(
            "{head}{}{tail}",
            dice.pick(&["\0", "\n", "/", "..", ",", ":", "=", "-", "é", "\\", "\"", "0"])
        ),
        _ => format!("{head}{}{tail}", number(dice)),
    }
}

fn number(dice: &mut Dice) -> serde_json::Number {
    let near = [0, 1, 8, 10, 16, 31, 32, 63].map(|bit| 1_u64 << bit);
    let value = dice.pick(&near).wrapping_add(dice.below(3) as u64).wrapping_sub(1);
    match dice.below(8) {
        0 => (value as i64).wrapping_neg().into(),
        1 => (dice.any() >> dice.below(64)).into(),
        2 => serde_json::Number::from_f64(value as f64 / 4.0).unwrap_or_else(|| 0.into()),
        _ => value.into(),
    }
}
