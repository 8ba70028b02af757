//! Rows, files and values that somebody else has written.

use std::fs;
use std::path::Path;

use flexcache_disk::{
    Compression, DATABASE, DiskStore, Error, Finding, Record, Rules, ValueRef, compression, files, mode,
};
use rusqlite::Connection;

use super::{NOW, PATIENCE, label, open, text};

/// A store with one row that has a file, whose name is then changed.
fn with_name(directory: &Path, name: &rusqlite::types::Value) -> (DiskStore, Rules) {
    let (store, rules) = open(directory);
    let own = files::Names::default().next().expect("a name");
    files::write(directory, &own, b"12345").expect("a file");
    let record = Record { size: 5, mode: mode::BINARY, filename: Some(&own), value: ValueRef::Null };
    store.set(text("a"), record, label(Some(NOW + 1.0)), &rules, PATIENCE).expect("set");
    store.close();
    let other = Connection::open(directory.join(DATABASE)).expect("the database is there");
    other.execute("UPDATE Cache SET filename = ?", [name]).expect("an update");
    drop(other);
    files::remove(directory, &own);
    (store, rules)
}

type Call = fn(&DiskStore, &Rules) -> Result<(), Error>;

const REMOVING: [Call; 8] = [
    |store, _| store.delete(text("a"), NOW, PATIENCE).map(drop),
    |store, _| {
        let popped = store.pop(text("a"), NOW, PATIENCE)?.result.expect("it is there");
        store.discard(&popped);
        Ok(())
    },
    |store, rules| {
        let record = Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Null };
        store.set(text("a"), record, label(None), rules, PATIENCE).map(drop)
    },
    |store, _| store.expire_some(NOW + 2.0, PATIENCE).map(drop),
    |store, _| store.clear_some(i64::MAX, PATIENCE).map(drop),
    |store, rules| store.cull_some(NOW, &Rules { size_limit: 0.0, ..rules.clone() }, PATIENCE).map(drop),
    |store, _| store.peek_row(true, NOW + 2.0, PATIENCE).map(drop),
    |store, _| store.check(true, PATIENCE).map(drop),
];

#[test]
fn nothing_outside_is_opened_or_removed() {
    use rusqlite::types::Value;

    let top = tempfile::tempdir().expect("a directory");
    let secret = top.path().join("secret");
    fs::write(&secret, b"12345").expect("a file");
    let absolute = secret.to_str().expect("Unicode").to_owned();
    let outside =
        ["../secret", "sub/../../secret", "./../secret", "", ".", "..", "/", DATABASE, "x/cache.db-wal"];
    let names = outside.iter().map(|&name| name.to_owned()).chain([absolute]).map(Value::Text);
    for name in
        names.chain([Value::Blob(b"../secret".to_vec()), Value::Integer(7), Value::Text("a/".repeat(3000))])
    {
        for remove in REMOVING {
            let directory = top.path().join("cache");
            fs::create_dir_all(directory.join("sub")).expect("a directory");
            let (store, rules) = with_name(&directory, &name);
            let found = store.get(text("a"), NOW, &rules, PATIENCE).expect("get").expect("the row is there");
            let file = found.filename.expect("a name");
            assert!(!files::is_inside(&file) || matches!(name, Value::Integer(_)), "{file}");
            assert!(files::open(&directory, &file, 0).expect("no error").is_none(), "{file}");
            let findings = store.check(false, PATIENCE).expect("check");
            assert!(
                findings.iter().any(|finding| matches!(finding, Finding::MissingFile(_))),
                "{findings:?}"
            );
            remove(&store, &rules).expect("the call works");
            drop(store);
            assert!(directory.join(DATABASE).exists());
            assert_eq!(fs::read(&secret).expect("it is there"), b"12345", "{file}");
            fs::remove_dir_all(&directory).expect("ours");
        }
    }
}

#[test]
fn compressed_values_come_back_or_are_damaged() {
    let value: Vec<u8> = (0..4000_u32).flat_map(|number| (number % 300).to_le_bytes()).collect();
    for kind in [Compression::Zstd, Compression::Lz4] {
        let (stored, mode) = kind.compress(&value, mode::BINARY);
        assert!(stored.len() < value.len());
        assert_eq!(compression::decompress(&stored, mode).expect("it is whole"), value);
        for place in 0..stored.len() {
            let mut flipped = stored.to_vec();
            flipped[place] ^= 1 << (place % 8);
            match compression::decompress(&flipped, mode) {
                Ok(content) => assert_eq!(content, value, "{kind:?} {place}"),
                Err(error) => assert!(matches!(error, Error::DamagedValue), "{kind:?} {place} {error:?}"),
            }
            let cut = compression::decompress(&stored[..place], mode);
            assert!(matches!(cut, Err(Error::DamagedValue)), "{kind:?} cut at {place}");
        }
        let mut longer = stored.to_vec();
        longer.push(0);
        assert!(matches!(compression::decompress(&longer, mode), Err(Error::DamagedValue)), "{kind:?}");
    }
}

#[test]
fn values_compressed_without_checksums_are_read() {
    let value = vec![7_u8; 100_000];
    let old = lz4_flex::block::compress_prepend_size(&value);
    assert_eq!(compression::decompress(&old, mode::BINARY | mode::LZ4).expect("it is whole"), value);
    let old = zstd::bulk::compress(&value, 3).expect("memory");
    assert_eq!(compression::decompress(&old, mode::BINARY | mode::ZSTD).expect("it is whole"), value);
    let streamed = zstd::stream::encode_all(value.as_slice(), 3).expect("memory");
    assert_eq!(compression::decompress(&streamed, mode::BINARY | mode::ZSTD).expect("it is whole"), value);
}
