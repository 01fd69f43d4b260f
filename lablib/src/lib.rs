//! Every system of the system design lab, and the workbench that measures them.
//!
//! One folder is one chapter; one file or folder in it is one system. Imports run one way: notebooks, chapters, [`lab`].
//! Chapters do not import each other, except that any may use `placing` and `identity`.
//!
//! | room | what is in it | notebooks |
//! |---|---|---|
//! | [`lab`] | the workbench: experiments, claims, measuring, charts, real servers, tools of proof | all |
//! | [`placing`] | which node holds a key: modulo and the consistent-hashing ring | `01-consistent-hashing` |
//! | [`tour`] | what the tour measures: the price list of round trips, and clients whose servers fail | `00-tour` |
//!
//! A notebook begins with `use lablib::prelude::*;`.

pub mod lab;
pub mod placing;
pub mod prelude;
pub mod tour;
