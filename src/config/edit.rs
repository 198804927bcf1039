//! Changes to the text of the configuration that leave everything else of it alone: comments, order, blank lines.
//! And how a text is told from another, and put in a file's place so that a crash leaves one of the two.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

/// Tells two texts apart; 16 bytes. (The nodes trust each other: no adversary looks for collisions.)
pub fn digest(text: &str) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(text.as_bytes()).to_be_bytes()
}

/// One export's table is added at the end. `settings` are its keys and values, in this order, without the path.
pub fn add_export(text: &str, path: &str, settings: &[(String, String)]) -> Result<String, String> {
    let mut document = parse(text)?;
    if tables(&mut document)?.iter().any(|table| is_of(table, path)) {
        return Err(format!("there is an export {path} already"));
    }
    let mut table = Table::new();
    table.insert("path", value(path));
    for (key, text) in settings.iter().filter(|(_, text)| !text.is_empty()) {
        table.insert(key, Item::Value(value_of(key, text)));
    }
    // After the last one; where the file has other tables behind it, those stay behind.
    table.decor_mut().set_prefix("\n");
    let tables = tables(&mut document)?;
    let last = tables.iter().filter_map(Table::position).max();
    tables.push(table);
    if let (Some(last), Some(table)) = (last, tables.iter_mut().last()) {
        table.set_position(Some(last));
    }
    Ok(document.to_string())
}

/// Keys of one export get other values; an empty one takes the key away, so that its default holds.
pub fn set_export(text: &str, path: &str, settings: &[(String, String)]) -> Result<String, String> {
    let mut document = parse(text)?;
    let table = tables(&mut document)?.iter_mut().find(|table| is_of(table, path));
    let table = table.ok_or_else(|| unknown(path))?;
    for (key, text) in settings {
        if text.is_empty() {
            table.remove(key);
            continue;
        }
        let mut new = value_of(key, text);
        if let Some(Item::Value(old)) = table.get(key) {
            // The comment behind it stays.
            *new.decor_mut() = old.decor().clone();
        }
        table.insert(key, Item::Value(new));
    }
    Ok(document.to_string())
}

/// One export's table goes, with the comments inside of it.
pub fn remove_export(text: &str, path: &str) -> Result<String, String> {
    let mut document = parse(text)?;
    let tables = tables(&mut document)?;
    let at = tables.iter().position(|table| is_of(table, path)).ok_or_else(|| unknown(path))?;
    tables.remove(at);
    Ok(document.to_string())
}

fn unknown(path: &str) -> String {
    format!("there is no export {path}")
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error: toml_edit::TomlError| error.to_string())
}

fn tables(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, String> {
    let item = document.entry("exports").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut().ok_or_else(|| {
        "`exports` is not written as [[exports]] tables: write it so, or change the file by hand".to_owned()
    })
}

fn is_of(table: &Table, path: &str) -> bool {
    table.get("path").and_then(Item::as_str) == Some(path)
}

/// What stands for a list on the command line may leave the brackets out.
const LISTS: [&str; 1] = ["clients"];

/// A value as TOML writes it, else the text itself.
fn value_of(key: &str, text: &str) -> Value {
    let value = text.parse::<Value>().unwrap_or_else(|_| Value::from(text));
    let mut value = match value {
        Value::String(one) if LISTS.contains(&key) => Value::Array(Array::from_iter([one.into_value()])),
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
                        read_only = false # for now\n\n[timing]\n# ping_ms = 50\n";

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
        let (head, tail) = TEXT.split_once("\n[timing]").unwrap();
        assert_eq!(text, format!("{head}{new}\n[timing]{tail}"));
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
