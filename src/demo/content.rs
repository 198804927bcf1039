//! What the demo writes: a tree of small files as in a project's sources, and some large ones. All of it
//! follows from a seed, so that reading it back needs no second copy.

/// Directories of small files.
const DIRS: u64 = 40;
/// Small files per directory.
const FILES_PER_DIR: u64 = 15;
/// Small files have 1 byte to 24 KiB.
const SMALL_BYTES_MAX: u64 = 24 << 10;
/// The large ones, MiB.
const LARGE_MIB: [u64; 3] = [16, 32, 64];
/// Bytes of the pieces that large files are written in.
pub const PIECE_BYTES: u64 = 1 << 20;
/// What one piece counts as in progress, where one small operation counts as 1.
pub const PIECE_UNITS: u64 = 10;

/// A file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What its bytes follow from.
    pub seed: u64,
    /// It has a second name.
    pub linked: bool,
    /// A symbolic link points to it.
    pub symlinked: bool,
    /// A file was beside it for a moment.
    pub scratch: bool,
}

impl FileSpec {
    /// The second name.
    pub fn link_name(&self) -> String {
        format!("{}.link", self.name)
    }

    /// The symbolic link.
    pub fn symlink_name(&self) -> String {
        format!("{}.sym", self.name)
    }

    /// How many operations a small file is: create, write, rename, and the extras.
    pub fn units(&self) -> u64 {
        3 + u64::from(self.linked) + u64::from(self.symlinked) + 2 * u64::from(self.scratch)
    }
}

/// A directory to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirSpec {
    /// Its name, in the root.
    pub name: String,
    /// What is in it.
    pub files: Vec<FileSpec>,
}

impl DirSpec {
    /// Every name in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for file in &self.files {
            names.push(file.name.clone());
            names.extend(file.linked.then(|| file.link_name()));
            names.extend(file.symlinked.then(|| file.symlink_name()));
        }
        names.sort();
        names
    }
}

/// Everything that is written to one export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Directories of small files.
    pub dirs: Vec<DirSpec>,
    /// Large files, in the root.
    pub large: Vec<FileSpec>,
}

impl Tree {
    /// Of a seed.
    pub fn new(seed: u64) -> Self {
        let dirs = (0..DIRS)
            .map(|d| DirSpec {
                name: format!("dir{d:02}"),
                files: (0..FILES_PER_DIR).map(|f| small(seed, d * FILES_PER_DIR + f)).collect(),
            })
            .collect();
        let large = LARGE_MIB
            .iter()
            .map(|mib| FileSpec {
                name: format!("large-{mib}M.bin"),
                bytes: mib << 20,
                seed: mix(seed ^ mix(*mib)),
                linked: false,
                symlinked: false,
                scratch: false,
            })
            .collect();
        Self { dirs, large }
    }

    /// Every name in the root, sorted.
    pub fn root_names(&self) -> Vec<String> {
        let dirs = self.dirs.iter().map(|d| d.name.clone());
        let mut names: Vec<String> = dirs.chain(self.large.iter().map(|f| f.name.clone())).collect();
        names.sort();
        names
    }

    /// Files, without second names.
    pub fn files(&self) -> u64 {
        let small: usize = self.dirs.iter().map(|d| d.files.len()).sum();
        (small + self.large.len()) as u64
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        let small = self.dirs.iter().flat_map(|d| &d.files);
        small.chain(&self.large).map(|f| f.bytes).sum()
    }

    /// What writing it counts as.
    pub fn units(&self) -> u64 {
        let small: u64 = self.dirs.iter().flat_map(|d| &d.files).map(FileSpec::units).sum();
        let large: u64 = self.large.iter().map(|f| f.bytes.div_ceil(PIECE_BYTES) * PIECE_UNITS).sum();
        self.dirs.len() as u64 + small + large
    }
}

fn small(seed: u64, number: u64) -> FileSpec {
    let random = mix(seed ^ mix(number + 1));
    FileSpec {
        name: format!("file{number:03}.c"),
        bytes: 1 + random % SMALL_BYTES_MAX,
        seed: random,
        linked: number.is_multiple_of(10),
        symlinked: number % 25 == 1,
        scratch: number % 5 == 2,
    }
}

/// The bytes of a file from `offset`, which is a multiple of 8.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    for (word, bytes) in (offset / 8..).zip(buffer.chunks_mut(8)) {
        let value = mix(seed.wrapping_add(word.wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes();
        for (to, from) in bytes.iter_mut().zip(value) {
            *to = from;
        }
    }
}

/// splitmix64's finalizer (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
