//! Goal: every sequence of operations gives the results and the tree that a naive file system gives; replicas
//! that apply the same entries are byte-identical; crashes change nothing. Method: random sequences on few names,
//! with handles of what is gone among them, on two exports: one is undisturbed, the other (memory durability)
//! checkpoints and crashes at random.

use proptest::prelude::*;
use proto::op::op::Kind;

use super::harness::{
    Export, create, create_how, handle, link, mkdir, mknod, remove, rename, rmdir, root, setattr, size,
    status, symlink, write,
};
use super::model::{Id, Model, Node};
use crate::fs::{FsOptions, Status, ftype};
use crate::ids::Handle;
use proto::op::create::How;

#[derive(Clone, Debug)]
enum Step {
    Open { dir: usize, name: usize, truncate: bool },
    Guarded { dir: usize, name: usize },
    Mkdir { dir: usize, name: usize },
    Symlink { dir: usize, name: usize },
    Fifo { dir: usize, name: usize },
    Link { file: usize, dir: usize, name: usize },
    Remove { dir: usize, name: usize },
    Rmdir { dir: usize, name: usize },
    Rename { from: usize, from_name: usize, to: usize, to_name: usize },
    Write { file: usize, offset: usize, len: usize },
    SetSize { file: usize, size: usize },
    Durable,
    Checkpoint,
    Crash,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0usize..1_000;
    let name = || 0usize..NAMES.len();
    let step = prop_oneof![
        4 => (at(), name(), proptest::bool::ANY).prop_map(|(dir, name, truncate)| Step::Open { dir, name, truncate }),
        1 => (at(), name()).prop_map(|(dir, name)| Step::Guarded { dir, name }),
        4 => (at(), name()).prop_map(|(dir, name)| Step::Mkdir { dir, name }),
        1 => (at(), name()).prop_map(|(dir, name)| Step::Symlink { dir, name }),
        1 => (at(), name()).prop_map(|(dir, name)| Step::Fifo { dir, name }),
        2 => (at(), at(), name()).prop_map(|(file, dir, name)| Step::Link { file, dir, name }),
        2 => (at(), name()).prop_map(|(dir, name)| Step::Remove { dir, name }),
        2 => (at(), name()).prop_map(|(dir, name)| Step::Rmdir { dir, name }),
        5 => (at(), name(), at(), name())
            .prop_map(|(from, from_name, to, to_name)| Step::Rename { from, from_name, to, to_name }),
        5 => (at(), 0usize..20_000, 0usize..5_000)
            .prop_map(|(file, offset, len)| Step::Write { file, offset, len }),
        2 => (at(), 0usize..20_000).prop_map(|(file, size)| Step::SetSize { file, size }),
        2 => Just(Step::Durable),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..80)
}

/// The handles that were ever given out, dead ones too, each with the model's number.
struct Known {
    all: Vec<(Handle, Id)>,
    dirs: Vec<(Handle, Id)>,
}

impl Known {
    fn any(&self, n: usize) -> (Handle, Id) {
        self.all[n % self.all.len()]
    }

    /// Mostly directories, so that most steps do something.
    fn dir(&self, n: usize) -> (Handle, Id) {
        if n.is_multiple_of(16) { self.any(n / 16) } else { self.dirs[n % self.dirs.len()] }
    }
}

/// An operation, its payload, and what the model says of it.
type Planned = (Kind, Vec<u8>, Result<Option<Id>, Status>);

fn none(result: Result<(), Status>) -> Result<Option<Id>, Status> {
    result.map(|()| None)
}

fn plan(step: &Step, known: &Known, model: &mut Model) -> Option<Planned> {
    let mut payload = Vec::new();
    let (kind, expected) = match *step {
        Step::Open { dir, name, truncate } => {
            let ((dir, d), name) = (known.dir(dir), NAMES[name]);
            let attr = if truncate { size(0) } else { None };
            (create(dir, name, attr), model.open(d, name, truncate).map(Some))
        }
        Step::Guarded { dir, name } => {
            let ((dir, d), name) = (known.dir(dir), NAMES[name]);
            let made = model.make(d, name, Node::File(Vec::new()));
            (create_how(dir, name, How::Guarded, 0), made.map(Some))
        }
        Step::Mkdir { dir, name } => {
            let ((dir, d), name) = (known.dir(dir), NAMES[name]);
            (mkdir(dir, name, 0o755), model.make(d, name, Node::Dir(Default::default())).map(Some))
        }
        Step::Symlink { dir, name } => {
            let ((dir, d), name) = (known.dir(dir), NAMES[name]);
            (symlink(dir, name, "to"), model.make(d, name, Node::Symlink("to".to_owned())).map(Some))
        }
        Step::Fifo { dir, name } => {
            let ((dir, d), name) = (known.dir(dir), NAMES[name]);
            (mknod(dir, name, ftype::FIFO), model.make(d, name, Node::Fifo).map(Some))
        }
        Step::Link { file, dir, name } => {
            let ((file, f), (dir, d), name) = (known.any(file), known.dir(dir), NAMES[name]);
            (link(file, dir, name), none(model.link(f, d, name)))
        }
        Step::Remove { dir, name } => {
            let ((dir, d), name) = (known.dir(dir), NAMES[name]);
            (remove(dir, name), none(model.remove(d, name)))
        }
        Step::Rmdir { dir, name } => {
            let ((dir, d), name) = (known.dir(dir), NAMES[name]);
            (rmdir(dir, name), none(model.rmdir(d, name)))
        }
        Step::Rename { from, from_name, to, to_name } => {
            let ((from, f), (to, t)) = (known.dir(from), known.dir(to));
            let (from_name, to_name) = (NAMES[from_name], NAMES[to_name]);
            (rename(from, from_name, to, to_name), none(model.rename(f, from_name, t, to_name)))
        }
        Step::Write { file, offset, len } => {
            let (file, f) = known.any(file);
            payload = vec![(offset % 255) as u8 + 1; len];
            (write(file, offset as u64), none(model.write(f, offset, &payload)))
        }
        Step::SetSize { file, size: to } => {
            let (file, f) = known.any(file);
            (setattr(file, size(to as u64)), none(model.set_size(f, to)))
        }
        Step::Durable | Step::Checkpoint | Step::Crash => return None,
    };
    Some((kind, payload, expected))
}

fn disturb(step: &Step, export: Export) -> Export {
    let applied = export.fs.progress().applied;
    match step {
        Step::Durable => export.fs.durable(applied).unwrap(),
        Step::Checkpoint => {
            export.fs.checkpoint().unwrap();
        }
        Step::Crash => {
            let digest = export.fs.progress().digest;
            let export = export.crash();
            assert_eq!(export.fs.progress().digest, digest, "replay gives the same digest");
            return export;
        }
        _ => {}
    }
    export
}

fn check(steps: &[Step]) {
    let mut model = Model::new();
    let mut plain = Export::new();
    let mut shaken = Export::with(FsOptions { apply_before_durable: true, ..FsOptions::default() });
    let start = vec![(plain.root(), 0)];
    let mut known = Known { all: start.clone(), dirs: start };
    for step in steps {
        let Some((kind, payload, expected)) = plan(step, &known, &mut model) else {
            shaken = disturb(step, shaken);
            continue;
        };
        let is_mkdir = matches!(kind, Kind::Mkdir(_));
        let op = plain.op(root(), kind);
        let reply = plain.apply_op(op.clone(), &payload);
        assert_eq!(reply, shaken.apply_op(op, &payload), "both replicas answer alike: {step:?}");
        assert_eq!(status(&reply), expected.err().unwrap_or(Status::Ok), "{step:?}");
        if let (Ok(Some(id)), Some(attr)) = (expected, &reply.attr) {
            known.all.push((handle(attr), id));
            if is_mkdir {
                known.dirs.push((handle(attr), id));
            }
        }
        for wcc in reply.wcc.iter().chain(&reply.to_wcc) {
            let after = wcc.after.as_ref().unwrap();
            let before = wcc.before.as_ref().unwrap();
            let moved = after.ctime_ns != before.ctime_ns;
            assert!(
                after.ctime_ns >= before.ctime_ns && (status(&reply) == Status::Ok || !moved),
                "{step:?}"
            );
        }
    }
    let tree = plain.tree();
    let seen: Vec<_> = tree
        .iter()
        .map(|(path, attr, content, _)| {
            (path.clone(), (attr.file_type, attr.nlink, attr.size, content.clone()))
        })
        .collect();
    assert_eq!(seen, model.tree());
    assert_eq!(shaken.tree(), tree);
    let live = model.nodes.iter().flatten().count() as u64;
    assert_eq!(plain.fs.progress().files, live);
    let ids: std::collections::BTreeMap<u64, u64> = tree
        .iter()
        .filter(|row| row.1.file_type == ftype::REG)
        .map(|row| (row.1.file_id, row.1.used))
        .collect();
    assert_eq!(plain.fs.progress().bytes_used, ids.values().sum::<u64>());
    assert_eq!(shaken.fs.progress().digest, plain.fs.progress().digest);
    assert_eq!(shaken.rows(), plain.rows());
    let shaken = shaken.crash();
    assert_eq!(shaken.tree(), tree, "and from its last checkpoint alone");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn replicas_and_model_agree(steps in steps()) {
        check(&steps);
    }
}
