//! Who speaks: certificates, trust, revocation, and the keys that outlive a restart.
//!
//! A certificate proves one thing, who the peer is, as a URI (`urn:fleetpulse:sensor:<uuid>` or
//! `:gateway:<uuid>`). What that peer may do is the register's. So certificates stay small and never
//! have to be made again because a sensor moved.
//!
//! Two halves. The verifying half ([`Leaf`], [`PeerIdentity`], [`TrustBundle`], [`ClientIdentity`],
//! [`client_tls`]) is always compiled and is all that a sensor needs. The server's half makes the authority on
//! first start, signs every peer certificate through one function ([`Authority::sign_csr`]), keeps the
//! revoked serials and the shared keys, and builds the TLS configurations of both ports.
//!
//! What people carry between server and sensor is signed ([`verify`](fn@verify), [`ActivationFile`]), and so is every download
//! ([`SignatureCheck`]); what a sensor's key is used
//! for besides TLS is in [`ClientKey`].
//!
//! A root or intermediate is replaced while the fleet is connected ([`Rotation`]).
//!
//! All private files are 0600, written beside their place and renamed into it, so a crash leaves the old
//! or the new file and nothing in between. The price of an authority of our own: whoever reads the data
//! directory can make sensors; the root key can therefore be moved away once the intermediate exists.

mod activation;
mod client_key;
mod detached;
mod files;
mod folder;
mod signed;
mod trust;
mod verify;

pub use trust::{
    ALPN_ENROL, ALPN_MAIN, ClientIdentity, ClockTime, TrustBundle, TrustError, client_tls, enrol_tls,
    provider,
};
pub use verify::{BadIdentity, BadSerial, IssuerMark, Leaf, LeafError, PeerIdentity, Serial, parse_leaf};

pub use activation::{ActivationError, ActivationFile, ActivationResponse, read_trust};
pub use detached::{SignatureCheck, VouchedFile};
pub use files::{FileError, file_name};
pub use signed::{
    SelfSignedFile, SignedError, SignedFile, from_base64url, sha256, to_base64url, verify, verify_self_signed,
};

pub use client_key::ClientKey;
pub use folder::IdentityFolder;

#[cfg(feature = "server")]
mod authority;
#[cfg(feature = "server")]
mod claim;
#[cfg(feature = "server")]
mod intermediate;
#[cfg(feature = "server")]
mod issuing;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "server")]
mod proof;
#[cfg(feature = "server")]
mod revocation;
#[cfg(feature = "server")]
mod roots;
#[cfg(feature = "server")]
mod rotation;
#[cfg(feature = "server")]
mod server_tls;
#[cfg(feature = "server")]
mod signing;

#[cfg(feature = "server")]
pub use authority::{Authority, AuthorityError, CsrError, RotationStage, ServerCertificate, Signed};
#[cfg(feature = "server")]
pub use claim::{ClaimError, verify_claim};
#[cfg(feature = "server")]
pub use keys::{Keys, TicketSealer};
#[cfg(feature = "server")]
pub use proof::{Lagging, Proof};
#[cfg(feature = "server")]
pub use revocation::{Revocations, Revoked};
#[cfg(feature = "server")]
pub use rotation::{IntermediateStatus, RootStatus, Rotation, RotationError, RotationStatus, Step};
#[cfg(feature = "server")]
pub use server_tls::{ServerTls, ServerTlsError};
#[cfg(feature = "server")]
pub use signing::FileSigner;

#[cfg(all(test, feature = "server"))]
mod detached_tests;
#[cfg(all(test, feature = "server"))]
mod rotation_tests;
#[cfg(all(test, feature = "server"))]
mod signed_tests;
#[cfg(all(test, feature = "server"))]
mod tests;
