"""Losses: of logits, predictions or embeddings, with weights and a reduction.

    reduction.py        weights, masks, "mean", "sum" and "none", and checks that losses share
    classification.py   softmax_cross_entropy, kl_divergence, smooth_labels
    binary.py           binary_cross_entropy, focal_loss
    likelihood.py       nll_loss, kl_div_loss: of log-probabilities
    hinge.py            multiclass_hinge_loss, multi_margin_loss
    regression.py       mse_loss, huber_loss, smooth_l1_loss
    boxes.py            giou_loss, diou_loss, ciou_loss: overlaps of predicted with target boxes
    segmentation.py     dice_loss
    contrastive.py      contrastive_loss, cosine_embedding_loss, triplet_loss: pairs and triplets
                        that are given
    ranking.py          margin_ranking_loss: which of two scores is ahead
    triplet_mining.py   triplet losses of a batch that finds its triplets
    angular_margin.py   arcface_loss, cosface_loss: cosines with a learned direction of each class
    histogram.py        histogram_loss: overlap of the similarities of pairs
    lda.py              lda_loss: eigenvalues of linear discriminant analysis

A loss keeps its gradient finite at kinks and for masked examples, and says what an empty batch
gives. Its name ends in `_loss`, unless it is the field's own for a quantity (a cross-entropy, a
divergence). The room imports `ops.common`, `ops.activation` and
`ops.detection.boxes`.
"""
