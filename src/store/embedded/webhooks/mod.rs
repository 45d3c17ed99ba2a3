//! What is to be told to the platform: an outbox of references, in the transaction of what they refer to. What is told is built
//! from what is stored when it goes out, so that nothing goes out that was erased or deleted meanwhile.

pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
pub(in crate::store::embedded) mod write;
