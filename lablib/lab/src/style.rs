//! The look of what the lab shows besides charts: tables, claims, verdicts.
//!
//! Every output carries its own style, because a cell's output must also look right in an exported report. Light and dark
//! pages both work: colours are laid over whatever is behind. A page of a report sets the `--lab-` colours for both.

/// The style sheet, once per output that needs it.
pub const STYLE: &str = "<style>\
[data-jp-theme-light=\"false\"]{--lab-good:#4ecfa2;--lab-bad:#ff9164;--lab-missed:#e0b040;--lab-quiet:#9aa6b2}\
.lab-note{color:var(--lab-quiet,#59636e);font-size:.85em;margin:.3em 0}\
.lab-warning{border-left:4px solid #d55e00;padding:.4em .8em;margin:.4em 0;font-weight:600}\
.lab-claim{margin:.35em 0;padding:.25em .7em;border-left:4px solid #009e73}\
.lab-claim.check{font-size:.88em;border-left-width:2px;margin:.15em 0}\
.lab-guess{border-left:4px solid #00695c;padding:.25em .7em;margin:.35em 0}\
.lab-answer{border:1px solid rgba(128,128,128,.4);border-left:4px solid #009e73;border-radius:4px;padding:.2em .9em;margin:.5em 0}\
.lab-answer p{margin:.5em 0}table.lab-verdict small{display:block;color:var(--lab-good,#00695c)}\
details.lab-checks{margin:.4em 0}details.lab-checks summary{cursor:pointer}\
.lab-claim.fails{border-color:#d55e00}.lab-claim.predicted{border-color:#0072b2}\
.lab-headline{font-size:1.15em;font-weight:600;margin:.2em 0 .6em}\
table.lab-table,table.lab-verdict{border-collapse:collapse;font-size:.92em;margin:.4em 0}\
table.lab-table caption{caption-side:top;text-align:left;font-weight:600;padding:.2em 0}\
table.lab-table th,table.lab-table td,table.lab-verdict th,table.lab-verdict td\
{padding:.3em .7em;border-bottom:1px solid rgba(128,128,128,.3);text-align:left!important;vertical-align:top}\
table.lab-table .number,table.lab-verdict .number{text-align:right!important;font-variant-numeric:tabular-nums;white-space:nowrap}\
table.lab-verdict .mark{white-space:nowrap;font-weight:600}\
table.lab-verdict tr.holds .mark{color:var(--lab-good,#00734f)}table.lab-verdict tr.fails .mark{color:var(--lab-bad,#b83a09)}\
table.lab-verdict tr.missed .mark{color:var(--lab-missed,#8a6100);white-space:normal}\
table.lab-verdict tr.fails td{background:rgba(213,94,0,.08)}\
@media (max-width:560px){.lab-wide{display:none}.lab-narrow{display:block!important}}\
.lab-scroll{overflow-x:auto;background:linear-gradient(to left,var(--jp-layout-color0,#fff) 30%,transparent) right/3em 100% \
no-repeat local,linear-gradient(to left,rgba(128,128,128,.4),transparent) right/1em 100% no-repeat scroll}\
</style>";
