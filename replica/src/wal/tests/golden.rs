//! Goal: a log that format version 1 wrote is read for ever.
//! Method: fixed bytes of a segment decode to fixed entries, and the same calls write the same bytes.

use super::*;
use crate::wal::format::{decode_state, encode_state};

/// All of the segment that is not zero: offset, 16 bytes.
const SEGMENT: [(usize, &str); 29] = [
    (0, "68616e667357414c0100000099355e23"),
    (16, "88776655443322110100000000000000"),
    (32, "00200000000000002800000000000000"),
    (48, "03000000000000000000000000000000"),
    (64, "33000000040000000000000000000000"),
    (80, "00000000280000000000000000000000"),
    (4096, "a848c96152454301090000001fee8823"),
    (4112, "00100000000000002900000000000000"),
    (4128, "04000000000000000200000000000000"),
    (4144, "6f707061796c6f616400000000000000"),
    (4160, "e7e55639524543010d0000008b392537"),
    (4176, "00100000000000002a00000000000000"),
    (4192, "04000000000000000500000000000000"),
    (4208, "6f702034322a00000004000000000000"),
    (4224, "624116cc524543040000000000000000"),
    (4240, "80100000000000000100000000000000"),
    (4272, "1953634d524543030000000000000000"),
    (4288, "b0100000000000002900000000000000"),
    (4304, "04000000000000000000000000000000"),
    (4320, "ddb90481524543023c000000205df6d7"),
    (4336, "b0100000000000000000000000000000"),
    (4368, "05000000000000000200000000000000"),
    (4384, "2a000000000000000600000000000000"),
    (4400, "07000000000000000800000000000000"),
    (4416, "070900336630632d626f6f7400000000"),
    (4432, "82394d215245430102000000240c1ce7"),
    (4448, "b0100000000000002a00000000000000"),
    (4464, "05000000000000000200000000000000"),
    (4480, "6f700000000000000000000000000000"),
];

fn state() -> StableState {
    StableState {
        term: 5,
        vote: 2,
        commit: 42,
        history: 6,
        solo: true,
        recovering: true,
        dirty_boot: "3f0c-boot".into(),
        witness: 7,
        parent_history: 8,
        parent_end: (0, 0),
        stand_in: true,
        blank: false,
        locks_lost: false,
    }
}

fn entries() -> Vec<Entry> {
    let op = Bytes::from_static(b"op");
    let payload = Bytes::from_static(b"payload");
    vec![
        Entry { index: 41, term: 4, op: op.clone(), payload },
        Entry { index: 42, term: 5, op, payload: Bytes::new() },
    ]
}

fn write() -> SimDisk {
    let disk = SimDisk::new();
    let options = WalOptions { segment_bytes: 8192, spare_segments: 0 };
    let base_state = StableState { term: 4, commit: 40, ..Default::default() };
    let id = 0x1122_3344_5566_7788;
    let mut wal = Wal::create_with_id(Arc::new(disk.clone()), options.clone(), id, (40, 3), &base_state)
        .expect("create")
        .wal;
    let [first, second] = entries().try_into().expect("two");
    wal.append(None, &[first, entry(42, 4, 8)]).expect("append");
    drop(wal);
    let mut wal = Wal::open(Arc::new(disk.clone()), options).expect("open").wal;
    wal.append(Some(&state()), &[second]).expect("append");
    wal.sync().expect("sync");
    disk
}

fn golden() -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    for (offset, hex) in SEGMENT {
        for (i, pair) in hex.as_bytes().chunks(2).enumerate() {
            let pair = std::str::from_utf8(pair).expect("ASCII");
            bytes[offset + i] = u8::from_str_radix(pair, 16).expect("hex");
        }
    }
    bytes
}

#[test]
fn version_1_is_written_as_it_ever_was() {
    let written = dump(&write()).remove(0).1;
    for (at, (a, b)) in written.chunks(16).zip(golden().chunks(16)).enumerate() {
        assert_eq!(hex(a), hex(b), "at offset {}", at * 16);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn version_1_is_read_as_it_ever_was() {
    let disk = SimDisk::new();
    let file = disk.open(Path::new("0000000000000001.wal"), true).expect("create");
    file.write_at(&[&golden()], 0).expect("write");
    let opened = open(&disk).expect("open");
    assert_eq!(opened.base, (40, 3));
    assert_eq!(opened.state, state());
    assert_eq!(opened.terms, vec![(41, 4), (42, 5)]);
    assert_eq!(all(&opened.reader), entries());
    assert_eq!(opened.torn_bytes, 0);
}

#[test]
fn each_flag_of_a_state_has_its_bit() {
    let off = StableState::default();
    let all = [
        (StableState { solo: true, ..off.clone() }, 1),
        (StableState { recovering: true, ..off.clone() }, 2),
        (StableState { stand_in: true, ..off.clone() }, 4),
        (StableState { blank: true, ..off.clone() }, 8),
        (StableState { locks_lost: true, ..off.clone() }, 16),
        (StableState { parent_end: (3, 2), ..off }, 32),
    ];
    for (state, flag) in all {
        let bytes = encode_state(&state);
        // After six numbers.
        assert_eq!(bytes.get(48), Some(&flag));
        assert_eq!(decode_state(&bytes), Some(state));
    }
}

/// Written only where there was a verdict, behind the boot id: an older log reads as one without.
#[test]
fn the_end_of_the_parent_history_is_behind_the_boot_id() {
    let without = StableState { dirty_boot: "b".into(), ..StableState::default() };
    let with = StableState { parent_end: (0x0102, 3), ..without.clone() };
    let (short, long) = (encode_state(&without), encode_state(&with));
    assert_eq!((short.len(), long.len()), (52, 68));
    assert_eq!(&long[52..], [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    for cut in 52..long.len() {
        assert_eq!(decode_state(&long[..cut]), None, "cut at {cut}");
    }
}
