//! Hot tenants: a search index whose tenants differ a thousandfold.
