//! The idea, as a drawing.

use lab::Drawing;

/// Keys on their way to shards, and what lies there.
pub fn picture() -> Drawing {
    let (ink, soft) = ("#1f2933", "#6b7280");
    let (one, two, three) = (Drawing::colour(0), Drawing::colour(2), Drawing::colour(1));
    let svg = format!(
        "<g font-size=\"13\" fill=\"{ink}\">\
         <text x=\"4\" y=\"40\">user:7</text><text x=\"4\" y=\"84\">user:8</text><text x=\"4\" y=\"128\">cart:7</text>\
         <rect x=\"112\" y=\"18\" width=\"132\" height=\"124\" rx=\"6\" fill=\"#fff\" stroke=\"{soft}\"/>\
         <text x=\"178\" y=\"76\" text-anchor=\"middle\">XXH3, then jump:</text>\
         <text x=\"178\" y=\"96\" text-anchor=\"middle\">the shard</text>\
         <path d=\"M60 36 H108 M60 80 H108 M60 124 H108\" stroke=\"{soft}\" fill=\"none\"/>\
         <path d=\"M244 56 H296 M244 108 H296\" stroke=\"{soft}\" fill=\"none\"/></g>\
         <g font-size=\"12\"><rect x=\"300\" y=\"14\" width=\"452\" height=\"60\" rx=\"6\" fill=\"{one}\" fill-opacity=\"0.1\" stroke=\"{one}\"/>\
         <rect x=\"300\" y=\"86\" width=\"452\" height=\"60\" rx=\"6\" fill=\"{two}\" fill-opacity=\"0.1\" stroke=\"{two}\"/>\
         <g fill=\"{soft}\" font-size=\"11\"><text x=\"312\" y=\"32\">k (primary key)</text><text x=\"424\" y=\"32\">v</text>\
         <text x=\"500\" y=\"32\">version</text><text x=\"610\" y=\"32\">expires_at</text></g>\
         <g fill=\"{ink}\"><text x=\"312\" y=\"58\">cart:7</text><text x=\"424\" y=\"58\">3 books</text><text x=\"500\" y=\"58\">9f31…</text>\
         <text x=\"610\" y=\"58\" fill=\"{three}\">a minute ago: absent</text>\
         <text x=\"312\" y=\"112\">user:7</text><text x=\"424\" y=\"112\">Ada</text><text x=\"500\" y=\"112\">03c8…</text><text x=\"610\" y=\"112\">never</text>\
         <text x=\"312\" y=\"134\">user:8</text><text x=\"424\" y=\"134\">Bob</text><text x=\"500\" y=\"134\">e7d0…</text><text x=\"610\" y=\"134\">in an hour</text></g></g>"
    );
    let plain = "key → XXH3, jump → shard; in each shard a table: k (primary key), v, version, expires_at\n";
    Drawing::new(
        "From a key to its row: the hash says which shard, the primary key says where",
        (760.0, 156.0),
        &svg,
        plain,
    )
}
