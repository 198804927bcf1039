//! nfsstat3.

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// nfsstat3, RFC 1813 section 2.6.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Status { $($(#[$doc])* $name = $value,)* }

        impl Status {
            /// The status with this number.
            pub fn from_u32(value: u32) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// NFS3_OK
    Ok = 0,
    /// NFS3ERR_PERM
    Perm = 1,
    /// NFS3ERR_NOENT
    NoEnt = 2,
    /// NFS3ERR_IO
    Io = 5,
    /// NFS3ERR_NXIO
    NxIo = 6,
    /// NFS3ERR_ACCES
    Acces = 13,
    /// NFS3ERR_EXIST
    Exist = 17,
    /// NFS3ERR_XDEV
    XDev = 18,
    /// NFS3ERR_NODEV
    NoDev = 19,
    /// NFS3ERR_NOTDIR
    NotDir = 20,
    /// NFS3ERR_ISDIR
    IsDir = 21,
    /// NFS3ERR_INVAL
    Inval = 22,
    /// NFS3ERR_FBIG
    FBig = 27,
    /// NFS3ERR_NOSPC
    NoSpc = 28,
    /// NFS3ERR_ROFS
    RoFs = 30,
    /// NFS3ERR_MLINK
    MLink = 31,
    /// NFS3ERR_NAMETOOLONG
    NameTooLong = 63,
    /// NFS3ERR_NOTEMPTY
    NotEmpty = 66,
    /// NFS3ERR_DQUOT
    DQuot = 69,
    /// NFS3ERR_STALE
    Stale = 70,
    /// NFS3ERR_BADHANDLE
    BadHandle = 10001,
    /// NFS3ERR_NOT_SYNC
    NotSync = 10002,
    /// NFS3ERR_BAD_COOKIE
    BadCookie = 10003,
    /// NFS3ERR_NOTSUPP
    NotSupp = 10004,
    /// NFS3ERR_TOOSMALL
    TooSmall = 10005,
    /// NFS3ERR_SERVERFAULT
    ServerFault = 10006,
    /// NFS3ERR_BADTYPE
    BadType = 10007,
    /// NFS3ERR_JUKEBOX
    Jukebox = 10008,
}
