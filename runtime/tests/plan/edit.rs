//! Changes of JSON as a tree, with words that belong there as keys and as values: most of what comes out still goes far into
//! whatever reads it. The fuzzers (fuzz/) use this file, too.

use fastrand::Rng;
use serde_json::{Map, Number, Value, json};

/// In bytes: what a text that is repeated has at most.
const LONGEST: usize = 1 << 16;

/// One change. Half of them keep the type, or hardly any text would come as far as the plan.
pub fn edit(tree: &mut Value, random: &mut Rng, words: &[&str]) {
    let other = somewhere(tree, random).clone();
    match (random.u8(..10), somewhere(tree, random)) {
        (0..6, Value::Object(map)) => object(map, other, random, words),
        (0..6, Value::Array(list)) => array(list, other, random),
        (0..6, Value::String(text)) => *text = string(text, random, words),
        (0..5, Value::Number(number)) => *number = self::number(random),
        (0..5, Value::Bool(word)) => *word = !*word,
        (6, here) => *here = other,
        (7, here) => *here = pick(random, words).into(),
        (8, here) => *here = number(random).into(),
        (_, here) => *here = random.choice([Value::Null, json!({}), json!([]), json!(true)]).expect("some"),
    }
}

fn pick<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    random.choice(from).copied().expect("some")
}

/// A value somewhere in the tree, deep ones as likely as shallow ones.
fn somewhere<'a>(value: &'a mut Value, random: &mut Rng) -> &'a mut Value {
    let size = match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    if size == 0 || random.u8(..8) == 0 {
        return value;
    }
    let n = random.usize(..size);
    match value {
        Value::Array(list) => somewhere(&mut list[n], random),
        Value::Object(map) => somewhere(map.values_mut().nth(n).expect("below its length"), random),
        other => other,
    }
}

fn object(map: &mut Map<String, Value>, other: Value, random: &mut Rng, words: &[&str]) {
    let known = random.choice(map.keys()).cloned();
    match (random.u8(..4), known) {
        (0, Some(key)) => drop(map.remove(&key)),
        (1, Some(key)) => {
            let value = map.remove(&key).expect("it is one of its keys");
            map.insert(pick(random, words).into(), value);
        }
        _ => drop(map.insert(pick(random, words).into(), other)),
    }
}

fn array(list: &mut Vec<Value>, other: Value, random: &mut Rng) {
    if list.is_empty() {
        return list.push(other);
    }
    let [a, b] = [(); 2].map(|()| random.usize(..list.len()));
    match random.u8(..4) {
        0 => drop(list.remove(a)),
        1 => list.swap(a, b),
        2 => list.push(list[a].clone()),
        _ => list.insert(a, other),
    }
}

fn string(text: &str, random: &mut Rng, words: &[&str]) -> String {
    let (head, tail) = text.split_at(text.floor_char_boundary(random.usize(..=text.len())));
    match random.u8(..7) {
        0 => pick(random, words).into(),
        1 => format!("{head}{}{tail}", pick(random, words)),
        2 => head.into(),
        3 => tail.into(),
        4 => {
            let sign =
                pick(random, &["\0", "\n", "/", "..", ",", ":", "=", "-", "é", "\\", "\"", "0", "\u{202e}"]);
            format!("{head}{sign}{tail}")
        }
        // Not one after the other without end.
        5 => text.repeat(random.usize(..300).min(LONGEST / text.len().max(1))),
        _ => format!("{head}{}{tail}", number(random)),
    }
}

/// Mostly next to a power of two at which a type ends.
fn number(random: &mut Rng) -> Number {
    let near = 1_u64 << random.choice([0, 1, 8, 10, 16, 31, 32, 63]).expect("some");
    let value = near.wrapping_add(random.u64(..3)).wrapping_sub(1);
    match random.u8(..8) {
        0 => (value as i64).wrapping_neg().into(),
        1 => (random.u64(..) >> random.u8(..64)).into(),
        2 => Number::from_f64(value as f64 / 4.0).unwrap_or_else(|| 0.into()),
        _ => value.into(),
    }
}
