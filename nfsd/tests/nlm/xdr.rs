//! The wire, written down a second time: XDR by hand, RPC messages, NLM's arguments.

/// Writes values.
#[derive(Clone, Default)]
pub struct Out(pub Vec<u8>);

impl Out {
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut out = self.u32(bytes.len() as u32);
        out.0.extend(bytes);
        while !out.0.len().is_multiple_of(4) {
            out.0.push(0);
        }
        out
    }

    /// An offset or a length of a version.
    pub fn range(self, version: u32, value: u64) -> Self {
        if version == 4 { self.u64(value) } else { self.u32(value as u32) }
    }
}

/// Reads values; panics where there are none: a test's server has to send them.
pub struct In<'a>(pub &'a [u8]);

impl In<'_> {
    pub fn u32(&mut self) -> u32 {
        let (head, rest) = self.0.split_at(4);
        self.0 = rest;
        u32::from_be_bytes(head.try_into().unwrap())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let len = self.u32() as usize;
        let bytes = self.0[..len].to_vec();
        self.0 = &self.0[len.next_multiple_of(4)..];
        bytes
    }

    pub fn range(&mut self, version: u32) -> u64 {
        if version == 4 { self.u64() } else { self.u32().into() }
    }

    pub fn end(self) {
        assert_eq!(self.0, [0u8; 0], "more than the results");
    }
}

/// A call, AUTH_SYS.
pub fn call(xid: u32, program: u32, version: u32, procedure: u32, uid: u32, args: &[u8]) -> Vec<u8> {
    let cred = Out::default().u32(1).bytes(b"c").u32(uid).u32(uid).u32(0);
    let head = Out::default().u32(xid).u32(0).u32(2).u32(program).u32(version).u32(procedure);
    let mut message = head.u32(1).bytes(&cred.0).u32(0).u32(0).0;
    message.extend(args);
    message
}

/// A reply of success with these results.
pub fn success(xid: u32, results: &[u8]) -> Vec<u8> {
    let mut message = Out::default().u32(xid).u32(1).u32(0).u32(0).u32(0).u32(0).0;
    message.extend(results);
    message
}

/// accept_stat and results of an accepted reply.
pub fn accepted(reply: &[u8], xid: u32) -> (u32, Vec<u8>) {
    let mut d = In(reply);
    assert_eq!((d.u32(), d.u32(), d.u32()), (xid, 1, 0), "an accepted reply");
    let _verifier = (d.u32(), d.bytes());
    let stat = d.u32();
    (stat, d.0.to_vec())
}

/// nlm_lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    pub caller: Vec<u8>,
    pub fh: Vec<u8>,
    pub oh: Vec<u8>,
    pub svid: u32,
    pub offset: u64,
    pub length: u64,
}

impl Lock {
    pub fn write(&self, out: Out, version: u32) -> Out {
        let out = out.bytes(&self.caller).bytes(&self.fh).bytes(&self.oh).u32(self.svid);
        out.range(version, self.offset).range(version, self.length)
    }

    pub fn read(d: &mut In<'_>, version: u32) -> Self {
        Self {
            caller: d.bytes(),
            fh: d.bytes(),
            oh: d.bytes(),
            svid: d.u32(),
            offset: d.range(version),
            length: d.range(version),
        }
    }
}

/// What a TEST or a LOCK asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub version: u32,
    pub cookie: Vec<u8>,
    pub block: bool,
    pub exclusive: bool,
    pub reclaim: bool,
    pub state: u32,
    pub lock: Lock,
}

impl Want {
    pub fn test(&self) -> Vec<u8> {
        self.lock.write(Out::default().bytes(&self.cookie).u32(self.exclusive.into()), self.version).0
    }

    fn begin(&self) -> Out {
        let out = Out::default().bytes(&self.cookie).u32(self.block.into()).u32(self.exclusive.into());
        self.lock.write(out, self.version)
    }

    pub fn lock(&self) -> Vec<u8> {
        self.begin().u32(self.reclaim.into()).u32(self.state).0
    }

    pub fn cancel(&self) -> Vec<u8> {
        self.begin().0
    }

    pub fn unlock(&self) -> Vec<u8> {
        self.lock.write(Out::default().bytes(&self.cookie), self.version).0
    }
}
