//! Changes to the text of the configuration that leave everything else of it alone: comments, order, blank lines.
//! And how a text is told from another, and put in a file's place so that a crash leaves one of the two.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use toml_edit::{Array, ArrayOfTables, Document, DocumentMut, Item, Table, TomlError, Value, value};

/// Tells two texts apart; 16 bytes. (The nodes trust each other: no adversary looks for collisions.)
pub fn digest(text: &str) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(text.as_bytes()).to_be_bytes()
}

/// One export's table is added behind the last one. `settings` are its keys and values, in this order, without the path; an
/// empty value says nothing.
pub fn add_export(text: &str, path: &str, settings: &[(String, String)]) -> Result<String, String> {
    let document = spans(text)?;
    if tables_of(&document).any(|table| is_of(table, path)) {
        return Err(format!("there is an export {path} already"));
    }
    if document.get("exports").is_some_and(|item| !item.is_array_of_tables()) {
        return Err(INLINE.to_owned());
    }
    let mut table = Table::new();
    table.insert("path", value(path));
    for (key, text) in settings.iter().filter(|(_, text)| !text.is_empty()) {
        table.insert(key, Item::Value(value_of(key, text)));
    }
    let place = tables_of(&document).last().map_or(text.len(), |last| end_of(text, last));
    let (before, after) = text.split_at(place);
    let line = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{before}{line}\n[[exports]]\n{table}{after}"))
}

/// Keys of one export get other values; an empty one takes the key away, with the comment above it, so that its default
/// holds.
pub fn set_export(text: &str, path: &str, settings: &[(String, String)]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: TomlError| error.to_string())?;
    let tables = document.get_mut("exports").and_then(Item::as_array_of_tables_mut).ok_or(INLINE)?;
    let table = tables.iter_mut().find(|table| is_of(table, path)).ok_or_else(|| unknown(path))?;
    for (key, text) in settings {
        if text.is_empty() {
            table.remove(key);
            continue;
        }
        let mut new = value_of(key, text);
        match table.get_mut(key) {
            // In its place, so that the comments above and behind it stay.
            Some(Item::Value(old)) => {
                *new.decor_mut() = old.decor().clone();
                *old = new;
            }
            _ => {
                table.insert(key, Item::Value(new));
            }
        }
    }
    Ok(document.to_string())
}

/// One export's table goes, with the comments inside of it and those right above it. (What is above the first one is about
/// all of them, and stays.)
pub fn remove_export(text: &str, path: &str) -> Result<String, String> {
    let document = spans(text)?;
    let at = tables_of(&document).position(|table| is_of(table, path)).ok_or_else(|| unknown(path))?;
    let table = tables_of(&document).nth(at).ok_or_else(|| unknown(path))?;
    let header = table.span().ok_or(INLINE)?.start;
    let mut before = text.get(..header).unwrap_or_default();
    let after = text.get(end_of(text, table)..).unwrap_or_default();
    while at > 0 && last_line(before).trim_start().starts_with('#') {
        before = before.strip_suffix(last_line(before)).unwrap_or_default();
    }
    if last_line(before).trim().is_empty() {
        before = before.strip_suffix(last_line(before)).unwrap_or_default();
    }
    Ok(format!("{before}{after}"))
}

const INLINE: &str =
    "`exports` is not written as [[exports]] tables: write it so, or change the file by hand and reload it";

fn unknown(path: &str) -> String {
    format!("there is no export {path}")
}

/// The text as tables that know where they are in it.
fn spans(text: &str) -> Result<Document<&str>, String> {
    Document::parse(text).map_err(|error| error.to_string())
}

fn tables_of<'a>(document: &'a Document<&str>) -> impl Iterator<Item = &'a Table> {
    document.get("exports").and_then(Item::as_array_of_tables).into_iter().flat_map(ArrayOfTables::iter)
}

fn is_of(table: &Table, path: &str) -> bool {
    table.get("path").and_then(Item::as_str) == Some(path)
}

/// Where a table ends: behind its last key and the comments that follow without a blank line.
fn end_of(text: &str, table: &Table) -> usize {
    let spans = table.iter().filter_map(|(_, item)| item.span()).chain(table.span());
    let last = spans.map(|span| span.end).max().unwrap_or(text.len());
    let mut end = last;
    for (number, line) in text.get(last..).unwrap_or_default().split_inclusive('\n').enumerate() {
        if number > 0 && !line.trim_start().starts_with('#') {
            break;
        }
        end += line.len();
    }
    end
}

/// The last line, its end included.
fn last_line(text: &str) -> &str {
    text.split_inclusive('\n').next_back().unwrap_or_default()
}

/// What stands for a list on the command line may leave the brackets out.
const LISTS: [&str; 1] = ["clients"];

/// A value as TOML writes it, else the text itself.
fn value_of(key: &str, text: &str) -> Value {
    let value = text.parse::<Value>().unwrap_or_else(|_| Value::from(text));
    let mut value = match value {
        Value::String(one) if LISTS.contains(&key) => Value::Array(Array::from_iter([one.into_value()])),
        // A size, which may have a unit, is a text.
        Value::Integer(_) if key == "quota" => Value::from(text),
        other => other,
    };
    value.decor_mut().clear();
    value
}

/// Puts a text in the place of a file. What was there is kept beside it as `NAME.1`. A crash leaves the old text or the
/// new one, never a part; when this returns, the new one is on disk.
pub fn replace_file(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let (new, previous) = (beside(path, ".new"), beside(path, ".1"));
    let mut out = File::create(&new)?;
    out.write_all(text.as_bytes())?;
    if let Ok(old) = std::fs::metadata(path) {
        out.set_permissions(old.permissions())?;
        // A name more for the old text, so that there is no instant without a file.
        match std::fs::remove_file(&previous) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::hard_link(path, &previous)?,
        }
    }
    out.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    //! Goal: an edit never costs an administrator what he wrote, and a crash never costs the file. Method: whole
    //! texts, compared line by line.

    use super::*;

    const TEXT: &str = "# ours\ncluster = \"x\" # said so\n\n[[exports]]\npath = \"/one\"\n# why: see the wiki\n\
                        read_only = false # for now\n# squash = \"root\"\n\n# times\n[timing]\n# ping_ms = 50\n";

    fn settings(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn an_added_export_follows_the_others_and_nothing_else_moves() {
        let keys =
            settings(&[("home", "b"), ("vip", "10.0.0.3/24"), ("clients", "10.0.0.0/24(rw)"), ("quota", "")]);
        let text = add_export(TEXT, "/three", &keys).unwrap();
        let new = "\n[[exports]]\npath = \"/three\"\nhome = \"b\"\nvip = \"10.0.0.3/24\"\n\
                   clients = [\"10.0.0.0/24(rw)\"]\n";
        let (head, tail) = TEXT.split_once("\n# times").unwrap();
        assert_eq!(text, format!("{head}{new}\n# times{tail}"));
        assert_eq!(remove_export(&text, "/three").unwrap(), TEXT);
        assert!(add_export(&text, "/three", &keys).unwrap_err().contains("already"));
    }

    #[test]
    fn a_changed_key_keeps_its_place_and_its_comment() {
        let text = set_export(TEXT, "/one", &settings(&[("read_only", "true"), ("squash", "all")])).unwrap();
        let expected = TEXT.replace("= false # for now\n", "= true # for now\nsquash = \"all\"\n");
        assert_eq!(text, expected);
        let back = set_export(&text, "/one", &settings(&[("squash", ""), ("read_only", "false")])).unwrap();
        assert_eq!(back, TEXT);
        assert!(set_export(TEXT, "/two", &[]).unwrap_err().contains("no export /two"));
        assert!(remove_export(TEXT, "/two").unwrap_err().contains("no export /two"));
    }

    #[test]
    fn a_removed_export_takes_its_own_comments_along_and_nobody_elses() {
        let text = "a = 1\n\n# all of them\n[[exports]]\npath = \"/1\"\n# x = 1\n\n# the second\n[[exports]]\n\
                    path = \"/2\"\n# y = 2\n\n# the third\n[[exports]]\npath = \"/3\"";
        let kept = "a = 1\n\n# all of them\n[[exports]]\npath = \"/1\"\n# x = 1\n\n# the third\n[[exports]]\n\
                    path = \"/3\"";
        assert_eq!(remove_export(text, "/2").unwrap(), kept);
        let kept = "a = 1\n\n# all of them\n\n# the second\n[[exports]]\npath = \"/2\"\n# y = 2\n\n# the third\n\
                    [[exports]]\npath = \"/3\"";
        assert_eq!(remove_export(text, "/1").unwrap(), kept);
        let more = add_export(text, "/4", &[]).unwrap();
        assert_eq!(more, format!("{text}\n\n[[exports]]\npath = \"/4\"\n"));
        assert!(add_export("exports = [{ path = \"/1\" }]", "/4", &[]).unwrap_err().contains("by hand"));
    }

    #[test]
    fn values_are_what_they_look_like() {
        for (text, expected) in [
            ("5", "5"),
            ("true", "true"),
            ("all", "\"all\""),
            ("500G", "\"500G\""),
            ("\"5\"", "\"5\""),
            ("a\"b", "'a\"b'"),
            ("[\"x\", \"y\"]", "[\"x\", \"y\"]"),
        ] {
            assert_eq!(value_of("k", text).to_string().trim(), expected, "{text}");
        }
        assert_eq!(value_of("clients", "*(ro)").to_string(), "[\"*(ro)\"]");
    }

    #[test]
    fn a_replaced_file_leaves_the_previous_one_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hanfs.toml");
        for text in ["1", "2", "3"] {
            replace_file(&path, text).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("hanfs.toml"), read("hanfs.toml.1")), ("3".to_owned(), "2".to_owned()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn texts_that_differ_in_a_comment_differ() {
        assert_ne!(digest("a"), digest("a # b"));
        assert_eq!(digest(TEXT), digest(TEXT));
    }
}
