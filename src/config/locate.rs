//! From a key to its line, from a byte to its key, and from a misspelt word to the likely one.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key's full name: `exports[0].vip`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Name(String),
    Index(usize),
}

impl KeyPath {
    /// A top-level key.
    pub fn root(name: &str) -> Self {
        Self::default().name(name)
    }

    /// The key `name` inside this table.
    pub fn name(&self, name: &str) -> Self {
        self.with(Segment::Name(name.to_owned()))
    }

    /// The element `index` of this array.
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Name(name) if i == 0 => f.write_str(name)?,
                Segment::Name(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The text of a file and where its keys are.
pub struct Source<'a> {
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> Source<'a> {
    /// Of a text that may be broken: what can be made out of it.
    pub fn new(text: &'a str) -> Self {
        Self { text, table: DeTable::parse_recoverable(text).0.into_inner() }
    }

    /// Line (from 1) of a byte.
    pub fn line_at(&self, byte: usize) -> usize {
        let upto = byte.min(self.text.len());
        1 + self.text.as_bytes().iter().take(upto).filter(|b| **b == b'\n').count()
    }

    /// Line of a key, or of the innermost table around it that the file has.
    pub fn line_of(&self, path: &KeyPath) -> usize {
        let mut line = 1;
        let mut at = Cursor::Table(&self.table);
        for segment in &path.0 {
            let Some((start, next)) = at.step(segment) else { break };
            line = self.line_at(start);
            at = next;
        }
        line
    }

    /// The key whose name or value has this byte range in it, as deep as possible.
    pub fn key_at(&self, span: &Range<usize>) -> KeyPath {
        let mut path = KeyPath::default();
        descend_table(&self.table, span, &mut path);
        path
    }
}

enum Cursor<'a> {
    Table(&'a DeTable<'a>),
    Value(&'a DeValue<'a>),
}

impl<'a> Cursor<'a> {
    fn step(&self, segment: &Segment) -> Option<(usize, Self)> {
        match segment {
            Segment::Name(name) => {
                let table = match self {
                    Self::Table(table) => table,
                    Self::Value(value) => value.as_table()?,
                };
                let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
                Some((key.span().start, Self::Value(value.get_ref())))
            }
            Segment::Index(index) => {
                let Self::Value(DeValue::Array(array)) = self else { return None };
                let value = array.get(*index)?;
                Some((value.span().start, Self::Value(value.get_ref())))
            }
        }
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// A table written as `[a.b]` has the span of its header alone, so a table is entered whatever its span is.
fn descend_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut KeyPath) -> bool {
    for (key, value) in table.iter() {
        let here = path.name(key.get_ref());
        let mut inside = here.clone();
        if descend_value(value, span, &mut inside) {
            *path = inside;
            return true;
        }
        if covers(&key.span(), span) || covers(&value.span(), span) {
            *path = here;
            return true;
        }
    }
    false
}

fn descend_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut KeyPath) -> bool {
    match value.get_ref() {
        DeValue::Table(table) => descend_table(table, span, path),
        DeValue::Array(array) => {
            for (i, element) in array.iter().enumerate() {
                let here = path.index(i);
                let mut inside = here.clone();
                if descend_value(element, span, &mut inside) {
                    *path = inside;
                    return true;
                }
                if covers(&element.span(), span) {
                    *path = here;
                    return true;
                }
            }
            false
        }
        _ => false,
    }
}

/// The candidate that `word` was probably meant to be: at most a third of its letters differ.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(d, _)| *d <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, in letters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, above) in b.iter().zip(row.iter().skip(1)) {
            let cell = (above + 1).min(left + 1).min(diagonal + usize::from(ca != *cb));
            next.push(cell);
            diagonal = *above;
            left = cell;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
